"""The node: receives, converts and sends, until it is told to stop.

One thread converts; each receiver has a thread, so that one that is down holds up no other. All
that they know of one another is the spool.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from medtranslate.errors import INSTALLATION, InputMissing, OutputFailed, common_exit_code
from medtranslate.node.converter import Converter
from medtranslate.node.jobs import Attempts, Job, State, instance_uids
from medtranslate.node.receiver import Counted, Server
from medtranslate.node.rules import NodeRules
from medtranslate.node.sender import DeliveryFailed, deliver, uids
from medtranslate.node.spool import Spool
from medtranslate.node.status import Figures, StatusServer
from medtranslate.text import escaped

logger = logging.getLogger("medtranslate.node")

_TICK = 0.2
"""Seconds between two looks at the spool."""
_HOUSEKEEPING = 60.0


class Node:
    """A DICOM node.

    Parameters
    ----------
    rules : NodeRules
        What it does.

    Examples
    --------
    >>> from medtranslate.node import Node, load_rules
    >>> with Node(load_rules("node.yaml")) as node:  # doctest: +SKIP
    ...     node.run()
    """

    def __init__(self, rules: NodeRules) -> None:
        self.rules = rules
        self.spool = Spool(rules.spool, rules.limits)
        self.figures = Figures(self.spool)
        self._converter = Converter(rules, self.spool)
        self._server: Server | None = None
        self._stop = threading.Event()
        self._unusable_until = 0.0
        self._unusable = 0
        self._kept = time.monotonic()

    def __enter__(self) -> Node:
        for job in self.spool.open():
            _log(job, f"attempt {job.record.attempts} was interrupted; converted again")
        self._finish_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.spool.close()

    @property
    def port(self) -> int:
        """The TCP port that it listens on; 0 while it does not."""
        return self._server.port if self._server else 0

    def stop(self) -> None:
        """Make `run` return, once what is under way has come to an end."""
        self._stop.set()

    def run(self) -> None:
        """Receive, convert and send until `stop` is called or an exception ends it.

        Raises
        ------
        NodeFailed
            A port is taken, or a certificate cannot be used.
        """
        rules, listen = self.rules, self.rules.listen
        with ExitStack() as stack:
            stack.callback(self._stop.set)
            if rules.status:
                page = StatusServer(rules.status, self.spool, self.figures)
                stack.callback(page.close)
                logger.info("status page at http://%s:%s/", rules.status.host, page.port)
            counted = Counted(self.figures.instance, self.figures.rejected)
            self._server = Server(rules, self.spool, counted)
            stack.callback(self._server.close)
            titles = ", ".join(listen.ae_titles)
            logger.info("listening as %s on %s:%s", titles, listen.host, self.port)
            for name in rules.receivers:
                thread = threading.Thread(target=self._send, args=(name,), name=f"to {name}")
                thread.start()
                stack.callback(thread.join)
                stack.callback(self._stop.set)
            while not self._stop.is_set():
                try:
                    busy = self.work()
                except Exception as error:  # a full disk, say: what is received is safe
                    logger.exception("unexpected error: %s", error)
                    busy = self._stop.wait(rules.retry.first_seconds)
                if not busy:
                    self._stop.wait(_TICK)

    def run_once(self) -> int:
        """Convert and send what the spool holds, each receiver tried once, without listening.

        Everything received counts as quiet.

        Returns
        -------
        int
            0 if everything was sent; else the exit code that all failures share, or 20.
        """
        before = {job.name for job in self.spool.jobs(State.QUARANTINE)}
        for job in self.spool.jobs(State.RECEIVED):
            self._settle(job)
        while self._convert_next():
            pass
        for name in self.rules.receivers:
            for job in self.spool.jobs(State.SENDING):
                self._deliver(job, name)
        left = self.spool.jobs(State.QUIET, State.SENDING)
        quarantine = self.spool.jobs(State.QUARANTINE)
        codes = [job.record.exit_code for job in quarantine if job.name not in before]
        return common_exit_code([*codes, *(OutputFailed.exit_code for _ in left)])

    def work(self) -> bool:
        """Take each received job further that is quiet, and convert one.

        Returns
        -------
        bool
            Whether there was something to convert.
        """
        self._settle_quiet()
        if time.monotonic() - self._kept > _HOUSEKEEPING:
            self._kept = time.monotonic()
            self._finish_all()
            self.spool.forget_sent()
            self.spool.measure()
        return self._convert_next()

    def _settle_quiet(self) -> None:
        jobs, quiet = self.spool.jobs(State.RECEIVED), self.rules.quiet
        for job in jobs:
            now, record = time.time(), job.record
            together = [job]
            if quiet.wait_for == "study":
                together = [one for one in jobs if one.record.study == record.study]
            silence = now - max(one.last_arrival for one in together)
            is_open = any(one.half_sent for one in together)
            if silence < quiet.seconds or (is_open and silence < quiet.half_sent_seconds):
                if now - record.received > quiet.longest_seconds:
                    fault = f"was not quiet within {quiet.longest_seconds:g} seconds"
                    self._aside(job, f"it {fault} of its first instance")
            elif job.half_sent and not self._sending(job):
                count = len(instance_uids(job))
                self._aside(
                    job,
                    f"half-sent: its association was cut off after {count} instances, and it was "
                    f"not sent again within {quiet.half_sent_seconds:g} seconds",
                )
            else:
                self._settle(job)

    def _sending(self, job: Job) -> bool:
        key = job.name.rpartition(".")[0]
        return self._server is not None and self._server.is_sending(key)

    def _settle(self, job: Job) -> None:
        """Make a received job quiet, unless its instances were converted before."""
        with self.spool.lock:  # nothing more of it is stored meanwhile
            self._settle_locked(job)

    def _settle_locked(self, job: Job) -> None:
        instances = set(instance_uids(job))
        if not instances:
            self.spool.remove(job)
            return
        earlier = [one for one in self.spool.of_series(job.name.rpartition(".")[0]) if one != job]
        earlier = [one for one in earlier if one.name != job.name]
        known = {uid for one in earlier if _stands(one) for uid in one.record.instances}
        if instances <= known:
            _log(job, "was received before: nothing new")
            self.spool.remove(job)
            return
        if known and not known <= instances:
            new = len(instances - known)
            self._aside(
                job,
                f"{new} instances came after the series was converted without them: send the whole "
                "series again",
                instances=tuple(sorted(instances)),
            )
            return
        self.spool.move(job, State.QUIET, instances=tuple(sorted(instances)))
        for one in earlier:
            superseded = set(one.record.instances) | set(instance_uids(one)) <= instances
            if one.state is State.QUARANTINE and superseded:
                self.spool.remove(one)
        _log(job, f"is received: {len(instances)} instances, rule {job.record.rule!r}")

    def _aside(self, job: Job, reason: str, **changes: object) -> None:
        code = InputMissing.exit_code
        self.spool.move(job, State.QUARANTINE, reason=reason, exit_code=code, **changes)
        _log(job, f"in quarantine: {reason}", logging.WARNING)
        self.figures.quarantined()

    def _convert_next(self) -> bool:
        """Convert the job that waits longest; tell whether there was one."""
        for job in self.spool.jobs(State.CONVERTED):
            self.spool.move(job, State.SENDING)
        waiting = self.spool.jobs(State.QUIET)
        if not waiting or time.monotonic() < self._unusable_until:
            return False
        start = time.monotonic()
        try:
            # After a fault of the installation another one: it may have been too large for it.
            job = self._converter.convert(waiting[self._unusable % len(waiting)])
        except INSTALLATION as error:
            pause = _pause(self._unusable, self.rules)
            self._unusable += 1
            self._unusable_until = time.monotonic() + pause
            fault = " ".join(str(error).split())
            logger.error("nothing can be converted: %s; tried again in %.0f s", fault, pause)
            self.figures.converted("installation", None)
            return False
        self._unusable = 0
        seconds = time.monotonic() - start
        if job.state is State.QUARANTINE:
            _log(job, f"in quarantine: {job.record.reason}", logging.WARNING)
            self.figures.converted("held" if job.record.held else "refused", seconds)
            self.figures.quarantined()
            return True
        _log(job, f"converted in {seconds:.1f} s: {len(job.record.results)} instances")
        self.figures.converted("converted", seconds)
        self.spool.move(job, State.SENDING)
        return True

    def _send(self, receiver: str) -> None:
        """Send to one receiver until the node stops."""
        paused, failures = 0.0, 0
        while not self._stop.wait(_TICK):
            for job in self.spool.jobs(State.SENDING):
                if self._stop.is_set() or time.time() < paused:
                    break
                try:
                    if not self._due(job, receiver):
                        continue
                    reached = self._deliver(job, receiver)
                except InputMissing:  # another receiver's thread has put it aside
                    continue
                except Exception as error:  # a thread that ended would never send again
                    logger.exception("to %s: unexpected error: %s", receiver, error)
                    reached = False
                failures = 0 if reached else failures + 1
                paused = 0.0 if reached else time.time() + _pause(failures - 1, self.rules)

    def _due(self, job: Job, receiver: str) -> bool:
        if receiver not in job.record.send_to:
            return False
        attempts = self.spool.attempts(job, receiver)
        return not attempts.done and attempts.next_try <= time.time()

    def _deliver(self, job: Job, receiver: str) -> bool:
        """Try once to send a job to a receiver; return False if the receiver cannot be reached."""
        if receiver not in job.record.send_to or self.spool.attempts(job, receiver).done:
            return True
        spool, taken = self.spool, self.spool.taken(job, receiver)
        files = [file for file in job.result_files if uids(file)[1] not in taken]

        def note(instances: Sequence[str]) -> None:
            spool.note_taken(job, receiver, instances)
            self.figures.delivered(receiver, len(instances))

        title = self.rules.listen.ae_titles[0]
        try:
            if files:
                deliver(self.rules.receivers[receiver], files, title, note)
        except DeliveryFailed as error:
            self._failed(job, receiver, error)
            return error.refused
        attempts = spool.attempts(job, receiver)
        spool.note_attempts(
            job, receiver, Attempts(attempts.failures, attempts.refusals, 0.0, "", done=True)
        )
        _log(job, f"sent to {receiver}: {len(job.record.results)} instances")
        self._finish(job)
        return True

    def _finish_all(self) -> None:
        """Count as sent what everybody has, where a kill came between the two."""
        for job in self.spool.jobs(State.SENDING):
            self._finish(job)

    def _finish(self, job: Job) -> None:
        """Count a job as sent if every receiver has it."""
        with self.spool.lock:
            to = job.record.send_to
            if job.folder.is_dir() and all(self.spool.attempts(job, one).done for one in to):
                self.spool.finish(job)
                self.figures.sent()

    def _failed(self, job: Job, receiver: str, error: DeliveryFailed) -> None:
        spool, retry = self.spool, self.rules.retry
        before = spool.attempts(job, receiver)
        pause = _pause(before.failures, self.rules)
        refusals = before.refusals + error.refused
        after = Attempts(before.failures + 1, refusals, time.time() + pause, str(error))
        spool.note_attempts(job, receiver, after)
        self.figures.failed(receiver)
        too_old = time.time() - job.record.changed > retry.give_up_hours * 3600
        if refusals >= retry.refusals or too_old:
            reason = f"to {receiver}: {error}, {after.failures} attempts"
            spool.quarantine(job, reason, OutputFailed.exit_code)
            _log(job, f"in quarantine: {reason}", logging.WARNING)
            self.figures.quarantined()
            return
        _log(job, f"to {receiver}: {error}; tried again in {pause:.0f} s", logging.WARNING)


def _stands(job: Job) -> bool:
    """Tell whether an earlier job of a series has, or will have, a result."""
    return job.state is not State.QUARANTINE or job.record.held or bool(job.record.results)


def _pause(failures: int, rules: NodeRules) -> float:
    """Return the seconds to wait after so many failures before this one."""
    retry = rules.retry
    return float(min(retry.longest_seconds, retry.first_seconds * 2.0 ** min(failures, 30)))


def _log(job: Job, message: str, level: int = logging.INFO) -> None:
    logger.log(level, "%s: %s", job.name, escaped(message))
