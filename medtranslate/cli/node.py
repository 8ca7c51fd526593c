"""``medtranslate node``: run a DICOM node, and look after what it put aside."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.cli.endings import say
from medtranslate.errors import InvalidOption

if TYPE_CHECKING:
    from medtranslate.node import NodeRules, Spool

node = typer.Typer(
    no_args_is_help=True,
    help="Run a DICOM node: series in, converted, results sent on. Needs the extra 'node'.",
)

Rules = Annotated[
    Path, typer.Argument(metavar="RULES", parser=shared.given_path, help="Rules file, YAML.")
]
Name = Annotated[str, typer.Argument(metavar="JOB", help="Name of a job, as list prints it.")]
Once = Annotated[
    bool,
    typer.Option("--once", help="Convert and send what the spool holds, without listening; exit."),
]
All = Annotated[bool, typer.Option("--all", help="List series that were sent, too.")]


@node.command("run")
def run(
    rules: Rules,
    once: Once = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Receive, convert and send, until the node is told to stop.

    Its log is on stderr, a line for each event; it names series by their UIDs, never patients.
    """
    loaded = _load(rules)
    _log_to_stderr(quiet=quiet, verbose=verbose)
    from medtranslate.node import Node

    with Node(loaded) as running:
        if once:
            raise typer.Exit(running.run_once())
        running.run()


@node.command("check")
def check(rules: Rules) -> None:
    """Check a rules file, and print what it says."""
    loaded = _load(rules)
    listen = loaded.listen
    say(f"listens as {', '.join(listen.ae_titles)} on {listen.host}:{listen.port}")
    for sender in loaded.senders:
        say(f"takes from {sender.ae_title} at {', '.join(sender.hosts)}")
    for rule in loaded.rules:
        receivers = ", ".join(rule.send_to)
        say(f"rule {rule.name!r}: {rule.modality} to {rule.to}, sent to {receivers}")


@node.command("list")
def list_jobs(rules: Rules, all: All = False) -> None:
    """List the series in the spool: state, name, and why a series is in quarantine."""
    from medtranslate.node import State

    spool = _spool(rules)
    states = [state for state in State if all or state is not State.SENT]
    for job in spool.jobs(*states):
        reason = f": {job.record.reason}" if job.record.reason else ""
        say(f"{job.folder.parent.name:10} {job.name}{reason}")


@node.command("retry")
def retry(rules: Rules, job: Name) -> None:
    """Convert a series in quarantine again."""
    done = _spool(rules).retry(job)
    say(f"{done.name} is to be converted again")


@node.command("release")
def release(rules: Rules, job: Name) -> None:
    """Send a result in quarantine on, although a verdict holds it back."""
    done = _spool(rules).release(job)
    say(f"{done.name} is to be sent")


def _load(rules: Path) -> NodeRules:
    try:
        from medtranslate.node import load_rules
    except ModuleNotFoundError as error:
        remedy = "pip install 'medtranslate[node]'"
        raise InvalidOption(f"the node needs {error.name}", remedy=remedy) from error
    return load_rules(rules)


def _spool(rules: Path) -> Spool:
    loaded = _load(rules)
    from medtranslate.node import Spool

    return Spool(loaded.spool, loaded.limits)


def _log_to_stderr(*, quiet: bool, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("medtranslate.node")
    logger.handlers = [handler]
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    network = logging.getLogger("pynetdicom")
    network.handlers = [handler] if verbose else [logging.NullHandler()]
    network.setLevel(logging.INFO if verbose else logging.CRITICAL)
