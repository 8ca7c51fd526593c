from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.domain_check import DomainCheck
from medtranslate.domain_check.anomalies import CONTENT_ANOMALIES, ORIENTATION_ANOMALIES
from medtranslate.domain_check.check import (
    MAX_SCORE,
    MAX_SLICES,
    RATES,
    ModalityCheck,
    ScoreScale,
    _evenly,
    _median,
)
from medtranslate.errors import OutOfDomain
from medtranslate.transforms import Prepared

NAMES = [*ORIENTATION_ANOMALIES, *CONTENT_ANOMALIES]
SOURCE = {"modality": "CT", "files": ["scan.nii.gz"]}


@dataclass(frozen=True)
class Told:
    """In place of the network: the scores that it is told, slice by slice."""

    scores: torch.Tensor

    def log_odds(self, halves: torch.Tensor, modality: str) -> torch.Tensor:
        return self.scores[: len(halves)]


def plain(values: int) -> ScoreScale:
    """A scale on which a value is its own score."""
    return ScoreScale(-torch.tensor(RATES).log10().expand(values, -1))


def told(**faults: list[float]) -> DomainCheck:
    """A check that finds these scores of faults in the first slices, and nothing else."""
    scores = torch.full((64, len(NAMES)), 0.4)
    for name, values in faults.items():
        place = NAMES.index(name.replace("_", " "))
        scores[: len(values), place] = torch.tensor(values)
    one = ModalityCheck(Told(scores), plain(len(NAMES)), plain(1), plain(1))  # type: ignore[arg-type]
    return DomainCheck({"CT": one, "MR": one}, (1.5, 2.5))


def some(head: Prepared, count: int) -> Prepared:
    """The first slices of a head that show enough of it."""
    shown = torch.nonzero(head.head.flatten(1).float().mean(1) > 0.05)[:count, 0]
    return Prepared(head.slices[shown], head.head[shown], head.limits, head.placement)


@pytest.mark.parametrize(
    ("score", "verdict"), [(1.4, "passed"), (1.6, "warned"), (2.4, "warned"), (2.6, "refused")]
)
def test_the_limits_part_the_verdicts(head: Prepared, score: float, verdict: str) -> None:
    judgment = told(inverted=[score]).judge(some(head, 1), SOURCE)

    assert judgment.verdict == verdict
    assert judgment.score == pytest.approx(score, abs=1e-4)
    assert judgment.limits == (1.5, 2.5)
    assert judgment.reasons == (() if verdict == "passed" else (CONTENT_ANOMALIES["inverted"],))


def test_some_odd_slices_do_not_make_a_scan_odd(head: Prepared) -> None:
    judgment = told(turned=[5.0, 5.0, 5.0]).judge(some(head, 8), SOURCE)

    assert judgment.verdict == "passed"
    assert judgment.slices is not None
    assert judgment.slices[:4] == pytest.approx((5.0, 5.0, 5.0, 0.4), abs=1e-4)


def test_most_slices_odd_make_a_scan_odd(head: Prepared) -> None:
    judgment = told(turned=[3.0] * 8).judge(some(head, 8), SOURCE)

    assert judgment.verdict == "refused"
    assert judgment.reasons == (ORIENTATION_ANOMALIES["turned"],)


def test_reasons_are_told_oddest_first_and_only_where_about_as_odd(head: Prepared) -> None:
    check = told(upside_down=[3.0], other_modality=[2.9], inverted=[1.6])

    reasons = check.judge(some(head, 1), SOURCE).reasons

    assert reasons == (ORIENTATION_ANOMALIES["upside down"], "looks like MR, not like CT")


def test_nothing_to_look_at_is_refused(head: Prepared) -> None:
    empty = Prepared(
        torch.full_like(head.slices, -1),
        torch.zeros_like(head.head),
        head.limits,
        head.placement,
    )

    judgment = told().judge(empty, SOURCE)

    assert (judgment.verdict, judgment.score) == ("refused", MAX_SCORE)
    assert judgment.reasons == ("there is no head in it",)
    assert judgment.slices is None


def test_one_brightness_all_over_is_refused(head: Prepared) -> None:
    slices = torch.where(head.head[:, None], 0.3, -1.0)
    even = Prepared(slices, head.head, head.limits, head.placement)

    judgment = told().judge(even, SOURCE)

    assert (judgment.verdict, judgment.score) == ("refused", MAX_SCORE)
    assert "one brightness" in judgment.reasons[0]


def test_a_refusal_names_file_reason_and_way_out(head: Prepared) -> None:
    judgment = told(no_head=[4.0]).judge(some(head, 1), SOURCE)

    with pytest.raises(OutOfDomain) as refusal:
        judgment.raise_if_refused(SOURCE)

    error = refusal.value
    assert error.path == Path("scan.nii.gz")
    assert CONTENT_ANOMALIES["no head"] in error.fault
    assert "--force" in str(error) and "force=True" in str(error)


def test_as_builtins_is_what_json_takes(head: Prepared) -> None:
    told_of = told(no_head=[4.0]).judge(some(head, 2), SOURCE).as_builtins()

    assert told_of["limits"] == {"warn": 1.5, "refuse": 2.5}
    assert told_of["slices"] == [4.0, 0.4]
    assert type(told_of["score"]) is float


@given(st.integers(0, 300))
def test_slices_are_looked_at_evenly(count: int) -> None:
    looked = _evenly(torch.arange(count)).tolist()

    assert len(looked) == len(set(looked)) == min(count, MAX_SLICES)
    gaps = {b - a for a, b in itertools.pairwise(looked)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.01, 1)), min_size=1, max_size=30))
def test_the_median_has_half_the_weight_on_each_side(pairs: list[tuple[float, float]]) -> None:
    values, weights = (torch.tensor(each) for each in zip(*pairs, strict=True))

    middle = _median(values[:, None], weights)[0]

    half = float(weights.sum()) / 2 + 1e-4
    assert float(weights[values < middle].sum()) <= half
    assert float(weights[values > middle].sum()) <= half


# Scale ---------------------------------------------------------------------------------------

GENUINE = torch.linspace(0, 1, 1001)[:, None]
SCALE = ScoreScale.measure(GENUINE)


def test_a_score_is_the_order_of_the_false_alarm_rate() -> None:
    values = torch.tensor([[0.5], [0.8], [0.9], [0.98]])

    scores = SCALE.score(values)[:, 0]

    expected = [0.301, 0.699, 1.0, 1.699]  # one in 2, in 5, in 10, in 50
    assert scores.tolist() == pytest.approx(expected, abs=0.02)


def test_beyond_what_was_measured_it_goes_on_evenly() -> None:
    first, second, third = SCALE.score(torch.tensor([[1.1], [1.2], [1.3]]))[:, 0]

    assert second - first == pytest.approx(float(third - second), rel=1e-4)
    assert SCALE.score(torch.tensor([[1e6]])).item() == MAX_SCORE
    assert SCALE.score(torch.tensor([[-1e6]])).item() == 0


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_odder_the_higher(one: float, other: float) -> None:
    low, high = sorted((one, other))
    scores = SCALE.score(torch.tensor([[low], [high]]))[:, 0]

    assert scores[0] <= scores[1]


def test_values_that_coincide_still_make_a_scale() -> None:
    scale = ScoreScale.measure(torch.zeros(50, 2))

    assert scale.knots.shape == (2, len(RATES))
    assert scale.score(torch.tensor([[0.0, 1.0]])).isfinite().all()
