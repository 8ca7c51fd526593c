"""Pairs of CT and MR rendered from label maps of whole heads (domain randomization).

``tissues`` says as data which label is which tissue and what it looks like; ``cut`` takes an
oblique slice with a thickness out of a map, and ``maps`` reads maps and keeps them in one file;
``anatomy`` and ``lesions`` change a slice; ``render`` makes CT and MR of it; ``pairs`` does all of
that, as a renderer, a MONAI transform, and a folder.
"""

from medtranslate.label_synthesis.anatomy import PLAIN_ANATOMY, AnatomySettings
from medtranslate.label_synthesis.cut import PLAIN_CUT, CutSettings, LabelMap
from medtranslate.label_synthesis.lesions import KINDS, NO_LESIONS, LesionKind, LesionSettings
from medtranslate.label_synthesis.maps import LabelMaps
from medtranslate.label_synthesis.pairs import (
    PairRenderer,
    PairSettings,
    RandRenderPair,
    RandRenderPaird,
    RenderedPairs,
    render_pairs,
)
from medtranslate.label_synthesis.render import PLAIN_CT, PLAIN_MR, CTSettings, MRSettings
from medtranslate.label_synthesis.tissues import Tissue, TissueTable

__all__ = [
    "KINDS",
    "NO_LESIONS",
    "PLAIN_ANATOMY",
    "PLAIN_CT",
    "PLAIN_CUT",
    "PLAIN_MR",
    "AnatomySettings",
    "CTSettings",
    "CutSettings",
    "LabelMap",
    "LabelMaps",
    "LesionKind",
    "LesionSettings",
    "MRSettings",
    "PairRenderer",
    "PairSettings",
    "RandRenderPair",
    "RandRenderPaird",
    "RenderedPairs",
    "Tissue",
    "TissueTable",
    "render_pairs",
]
