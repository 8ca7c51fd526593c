"""The command line: one file a command.

``app`` gathers the commands, ``endings`` turns what went wrong into one line and an exit code.
Nothing heavy is imported until a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``medtranslate`` with the arguments of this process, and exit with its code."""
    from medtranslate.cli.lean import COMMANDS, lean_imports

    if COMMANDS.intersection(sys.argv[1:2]):
        lean_imports()
    from medtranslate.cli.app import app
    from medtranslate.cli.endings import run

    sys.exit(run(app, sys.argv[1:]))
