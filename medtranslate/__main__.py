"""``python -m medtranslate`` is the command ``medtranslate``."""

from medtranslate.cli import main

main()
