"""A DICOM node: receives series, converts them with `medtranslate.convert`, and sends results on.

``rules`` (what the rules file says) -> ``receiver`` (C-ECHO and C-STORE in) -> ``spool`` (``jobs``
on disk, a small state machine) -> ``converter`` -> ``sender`` (C-STORE, STOW-RS, a folder), run by
``service``; ``status`` shows how things stand. Needs the extra ``node``.
"""

from medtranslate.node.jobs import Job, State
from medtranslate.node.rules import NodeRules, load_rules
from medtranslate.node.service import Node
from medtranslate.node.spool import Spool

__all__ = ["Job", "Node", "NodeRules", "Spool", "State", "load_rules"]
