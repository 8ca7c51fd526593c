"""Lesions of many kinds, put into class maps: they then show in CT and MR at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from medtranslate.label_synthesis.anatomy import BONE
from medtranslate.label_synthesis.cut import BRAIN, mid_layer
from medtranslate.label_synthesis.draw import Draw, distance, per_slice
from medtranslate.label_synthesis.tissues import TissueTable

FLUID = ("csf", "ventricle", "choroid_plexus")
_LEAST_BRAIN = 0.023  # share of the field, below which a slice gets no lesion
_NEAR_SKULL = 6  # pixels


@dataclass(frozen=True)
class Layer:
    """One tissue of a lesion.

    Parameters
    ----------
    tissue : str
        Its name in the table.
    reach : float
        How far from the center it begins, as a share of the lesion's radius; layers inside it are
        painted over it.
    chance : float
        In what share of the lesions it is there.
    """

    tissue: str
    reach: float = 1.0
    chance: float = 1.0


@dataclass(frozen=True)
class LesionKind:
    """One kind of lesion.

    Parameters
    ----------
    name : str
    weight : float
        How often it is drawn beside the others.
    radius : (low, high)
        In pixels.
    layers : tuple of Layer
        From the outside in.
    site : {"brain", "white_matter", "rim", "skull"}
        Where its center lies; ``"rim"`` is brain near the skull.
    over : tuple of str
        What its layers replace; an edema only ever replaces brain.
    along_skull : bool
        Spread along the skull as a crescent, not as a blob.

    Examples
    --------
    >>> [kind.name for kind in KINDS if kind.along_skull]
    ['subdural_hemorrhage', 'older_subdural_hemorrhage']
    """

    name: str
    weight: float
    radius: tuple[float, float]
    layers: tuple[Layer, ...]
    site: str = "brain"
    over: tuple[str, ...] = BRAIN
    along_skull: bool = False


_EDEMA = Layer("edema", 1.5, 0.6)

KINDS: tuple[LesionKind, ...] = (
    LesionKind("infarct", 0.14, (4, 30), (Layer("acute_infarct"),)),
    LesionKind("edema", 0.10, (3, 24), (Layer("edema"),)),
    LesionKind("tumor", 0.08, (3, 24), (_EDEMA, Layer("tumor"))),
    LesionKind("enhancing_tumor", 0.06, (3, 22), (_EDEMA, Layer("enhancing_tumor"))),
    LesionKind(
        "cystic_tumor",
        0.07,
        (6, 26),
        (_EDEMA, Layer("enhancing_tumor"), Layer("necrosis", 0.7)),
    ),
    LesionKind(
        "meningioma",
        0.05,
        (5, 22),
        (Layer("edema", 1.4, 0.4), Layer("enhancing_tumor")),
        site="rim",
        over=BRAIN + FLUID,
    ),
    LesionKind("cyst", 0.06, (3, 26), (Layer("cyst"),)),
    LesionKind(
        "cyst_at_the_skull", 0.07, (5, 28), (Layer("cyst"),), site="rim", over=BRAIN + FLUID
    ),
    LesionKind("hemorrhage", 0.09, (3, 24), (_EDEMA, Layer("fresh_blood"))),
    LesionKind(
        "subdural_hemorrhage",
        0.06,
        (3, 12),
        (Layer("fresh_blood"),),
        site="rim",
        over=BRAIN + FLUID,
        along_skull=True,
    ),
    LesionKind(
        "older_subdural_hemorrhage",
        0.03,
        (3, 12),
        (Layer("older_blood"),),
        site="rim",
        over=BRAIN + FLUID,
        along_skull=True,
    ),
    LesionKind("older_hemorrhage", 0.03, (3, 20), (Layer("older_blood"),)),
    LesionKind("plaque", 0.1, (2, 6), (Layer("plaque"),), site="white_matter"),
    LesionKind("calcification", 0.03, (1.5, 4), (Layer("calcification"),)),
    LesionKind("craniotomy", 0.02, (8, 26), (Layer("soft_tissue"),), site="skull", over=BONE),
    LesionKind("clip", 0.01, (1, 2.5), (Layer("metal"),), over=BRAIN + FLUID),
)
"""The kinds that are drawn. Hydrocephalus is a change of the whole head: `anatomy`."""

TISSUES = tuple(
    dict.fromkeys(
        layer.tissue
        for kind in KINDS
        if kind.site != "skull" and kind.name != "clip"
        for layer in kind.layers
    )
)
"""What lesions of the brain are made of; the plexus of a healthy one may be calcified, too."""


@dataclass(frozen=True)
class LesionSettings:
    """How many lesions.

    Parameters
    ----------
    share : float
        Share of the slices that get any.
    most : int
        Most in a slice; from 1 to that many are drawn.
    kinds : tuple of LesionKind

    Examples
    --------
    >>> strokes = LesionSettings(share=1.0, most=1, kinds=kinds("infarct", "hemorrhage"))
    >>> [kind.name for kind in strokes.kinds]
    ['infarct', 'hemorrhage']
    """

    share: float = 0.6
    most: int = 3
    kinds: tuple[LesionKind, ...] = KINDS


NO_LESIONS = LesionSettings(share=0.0)


def kinds(*names: str) -> tuple[LesionKind, ...]:
    """Return some kinds by name.

    Examples
    --------
    >>> [kind.name for kind in kinds("hemorrhage", "plaque")]
    ['hemorrhage', 'plaque']
    """
    by_name = {kind.name: kind for kind in KINDS}
    return tuple(by_name[name] for name in names)


def put_lesions(
    classes: torch.Tensor, table: TissueTable, draw: Draw, settings: LesionSettings
) -> tuple[torch.Tensor, tuple[tuple[str, ...], ...]]:
    """Put lesions into slices that show enough brain.

    Parameters
    ----------
    classes : uint8 tensor (N, sublayers, H, W)
    table : TissueTable
    draw : Draw
    settings : LesionSettings

    Returns
    -------
    classes : uint8 tensor (N, sublayers, H, W)
    names : tuple of tuple of str
        The kinds that each slice got.
    """
    enough = table.is_any(mid_layer(classes), *BRAIN).float().mean((1, 2)) > _LEAST_BRAIN
    given = (draw.chance(settings.share) & enough).tolist()
    wanted = draw.integers([1.0] * settings.most).tolist()
    names: list[list[str]] = [[] for _ in range(draw.count)]
    from_skull = distance(table.is_any(mid_layer(classes), *BONE), 30)
    for lesion in range(settings.most if any(given) else 0):
        places = draw.integers([kind.weight for kind in settings.kinds]).tolist()
        chosen = [settings.kinds[place] for place in places]
        reach = _reach(classes, from_skull, table, draw, chosen)
        there = [draw.uniform(0, 1).tolist() for _ in range(max(len(k.layers) for k in chosen))]
        painted = classes.clone()
        for place, kind in enumerate(chosen):
            if not given[place] or lesion > wanted[place]:
                continue
            for layer, luck in zip(kind.layers, there, strict=False):
                if luck[place] < layer.chance:
                    over = BRAIN if layer.tissue == "edema" else kind.over
                    _paint(painted[place], classes[place], reach[place], layer, over, table)
            if (painted[place] != classes[place]).any():
                names[place].append(kind.name)
        classes = painted
    return classes, tuple(tuple(each) for each in names)


def _paint(
    painted: torch.Tensor,
    before: torch.Tensor,
    reach: torch.Tensor,
    layer: Layer,
    over: Sequence[str],
    table: TissueTable,
) -> None:
    where = (reach < layer.reach)[None] & table.is_any(before, *over)
    painted[where] = table.index(layer.tissue)


def _reach(
    classes: torch.Tensor,
    from_skull: torch.Tensor,
    table: TissueTable,
    draw: Draw,
    chosen: Sequence[LesionKind],
) -> torch.Tensor:
    """Return for each slice how far pixels lie from its lesion's center: 1 at its radius."""
    middle = mid_layer(classes)
    skull = table.is_any(middle, *BONE)
    brain = table.is_any(middle, *BRAIN)
    sites = {
        "brain": brain,
        "white_matter": table.is_any(middle, "white_matter"),
        "rim": brain & (from_skull < _NEAR_SKULL),
        "skull": skull,
    }
    site = torch.stack([sites[kind.site][place] for place, kind in enumerate(chosen)])
    center = draw.point_in(site)
    span = torch.tensor([kind.radius for kind in chosen], device=draw.device)
    # Small ones are more frequent than large ones, as in people.
    radius = span[:, 0] + (span[:, 1] - span[:, 0]) * draw.uniform(0, 1) ** 1.6
    side = torch.arange(middle.shape[-1], device=draw.device, dtype=torch.float32)
    down = side[None, : middle.shape[-2], None] - per_slice(center[:, 0])
    across = side[None, None] - per_slice(center[:, 1])
    turn, stretch = draw.uniform(0, torch.pi), per_slice(draw.uniform(0.65, 1.5))
    cos, sin = per_slice(turn.cos()), per_slice(turn.sin())
    blob = torch.hypot((down * cos + across * sin) * stretch, (across * cos - down * sin) / stretch)
    blob = blob / per_slice(radius)
    blob = blob + per_slice(draw.uniform(0.05, 0.25)) * draw.field(12)
    length = per_slice(draw.uniform(28, 100))
    crescent = from_skull / per_slice(radius) + torch.hypot(down, across) / length
    crescent = crescent + 0.1 * draw.field(24)
    along = torch.tensor([kind.along_skull for kind in chosen], device=draw.device)
    return torch.where(per_slice(along), crescent, blob)
