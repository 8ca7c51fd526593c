"""One job through `medtranslate.convert`, and the verdicts that hold its result back."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from medtranslate.conversion import Conversion, convert
from medtranslate.errors import (
    INSTALLATION,
    MedTranslateError,
    OutOfDomain,
    OutputFailed,
    exit_code,
)
from medtranslate.node.jobs import Job, State
from medtranslate.node.rules import HoldIf, NodeRules, Rule
from medtranslate.node.sender import uids
from medtranslate.node.spool import Spool
from medtranslate.translation import Translator

logger = logging.getLogger("medtranslate.node")


class Converter:
    """Converts jobs one after another with one model.

    Parameters
    ----------
    rules : NodeRules
    spool : Spool
    """

    def __init__(self, rules: NodeRules, spool: Spool) -> None:
        self._rules, self._spool = rules, spool
        self._translator: Translator | None = None

    def convert(self, job: Job) -> Job:
        """Convert a quiet job.

        Returns
        -------
        Job
            Converted, or in quarantine with the reason.

        Raises
        ------
        ModelUnusable, DeviceUnusable, OutputFailed
            The installation is at fault; the job is quiet again.
        """
        spool, rules = self._spool, self._rules
        rule = rules.rule(job.record.rule)
        if rule is None:
            reason = f"the rules file has no rule {job.record.rule!r} any more"
            return spool.quarantine(job, reason, OutputFailed.exit_code)
        if job.record.attempts >= rules.limits.conversions:
            reason = f"the node died {job.record.attempts} times while converting it"
            return spool.quarantine(job, reason, MedTranslateError.exit_code)
        job = spool.begin(job)
        try:
            done = self._converted(job, rule)
        except INSTALLATION:
            spool.move(job, State.QUIET, attempts=job.record.attempts - 1)
            raise
        except Exception as error:
            return self._refused(job, error)
        except BaseException:  # the node is told to end, which is no fault of the series
            spool.move(job, State.QUIET, attempts=job.record.attempts - 1)
            raise
        results = tuple(uids(file)[1] for file in job.result_files)
        known = {"results": results, "send_to": tuple(rule.send_to)}
        reasons = held_back(done.checks, done.source, rule.hold_if)
        if reasons:
            told = f"held back: {'; '.join(reasons)}"
            code = OutOfDomain.exit_code
            return spool.move(
                job, State.QUARANTINE, reason=told, exit_code=code, held=True, **known
            )
        return spool.move(job, State.CONVERTED, **known)

    def _converted(self, job: Job, rule: Rule) -> Conversion:
        model = self._rules.model
        if self._translator is None:
            self._translator = Translator.load(
                str(model.bundle) if model.bundle else None,
                device=model.device,
                precision=model.precision,
                batch_size=model.batch_size,
                engine=model.engine,
            )
        return convert(
            job.source,
            to=rule.to,
            contrast=rule.contrast,
            output=job.results / "series",
            format="dicom",
            uid_seed=self._rules.uid_seed,
            keep_private=rule.keep_private,
            variation=rule.hold_if.variation is not None,
            map=rule.map,
            preview=False,
            reports=[job.folder / "report.json"],
            overwrite=True,
            translator=self._translator,
        )

    def _refused(self, job: Job, error: Exception) -> Job:
        if isinstance(error, MedTranslateError):
            remedy = f" ({error.remedy})" if error.remedy else ""
            reason = f"{error.fault}{remedy}"
        else:
            reason = f"unexpected error: {type(error).__name__}: {error}"
            logger.error("%s", "".join(traceback.format_exception(error)))
        return self._spool.quarantine(job, " ".join(reason.split()), exit_code(error))


def held_back(checks: Mapping[str, Any], source: Mapping[str, Any], hold_if: HoldIf) -> list[str]:
    """Return why the verdicts of the checks hold a result back, nothing if they do not.

    Parameters
    ----------
    checks, source : mapping
        Of the `Conversion`.
    hold_if : HoldIf
        Of the rule.

    Examples
    --------
    >>> held_back({"domain": {"verdict": "warned", "reasons": ["a tilted head"]}}, {}, HoldIf())
    ['the domain check warns: a tilted head']
    """
    reasons = []
    domain = checks.get("domain", {})
    if hold_if.domain_warned and domain.get("verdict") == "warned":
        reasons.append(f"the domain check warns: {'; '.join(domain['reasons'])}")
    for name in ("expected_error", "cycle_error", "variation"):
        limit = getattr(hold_if, name)
        if limit is None:
            continue
        words, measured = name.replace("_", " "), checks.get(name)
        if measured is None:
            reasons.append(f"no {words} was measured")
        elif measured["share_of_range"] > limit:
            share = measured["share_of_range"]
            reasons.append(f"the {words} is {share:.3f} of the range, more than {limit:g}")
    most = hold_if.outside_field_voxels
    outside = checks.get("unseen", {}).get("outside_field_voxels", 0)
    if most is not None and outside > most:
        reasons.append(f"{outside} voxels of tissue lie outside the field of view")
    if hold_if.uneven and not source.get("even", True):
        reasons.append("its slices are not evenly spaced: one may be missing")
    return reasons
