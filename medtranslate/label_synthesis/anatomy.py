"""What label maps lack: age and build of other people, fat and muscle, air cells, cut fields.

Everything works on class maps ``(N, sublayers, H, W)``, decided in the middle layer, so that a
change has the same place in CT and MR: both are rendered afterward.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from medtranslate.label_synthesis.cut import BRAIN, mid_layer
from medtranslate.label_synthesis.draw import Draw, distance, per_slice, solid
from medtranslate.label_synthesis.tissues import TissueTable

BONE = ("compact_bone", "spongy_bone")
LOW = ("eye", "mucosa", "spinal_cord", "optic_nerve")
"""Tissues by which a slice is known to lie low in the head."""

_UPPER = 0.076  # share of the field that is brain in slices above the orbits


@dataclass(frozen=True)
class AnatomySettings:
    """In what share of the slices each change is made, 0 to 1.

    Parameters
    ----------
    ventricles : float
        Wide ventricles, up to hydrocephalus; one-sided in a fifth of them.
    sulci : float
        Wide sulci and a thin cortex: atrophy.
    swelling : float
        Sulci pressed shut.
    skull : float
        A thicker or thinner skull.
    marrow, no_marrow : float
        Bone whose inside becomes spongy, and spongy bone that becomes compact.
    air_cells : float
        Mastoid cells and sinuses in thick bone of the skull base, filled with mucosa in a quarter.
    frontal_sinus : float
        A sinus in the frontal bone of upper slices.
    scalp : float
        A thicker scalp.
    calcified_plexus : float
        A choroid plexus with calcium.
    cut_field : float
        A field that ends within the head, at one or two of its sides.
    cut_plane : float
        Something cut off by an oblique plane, as a removed face or a cropped neck.

    Examples
    --------
    >>> from dataclasses import replace
    >>> atrophy = replace(PLAIN_ANATOMY, sulci=1.0)  # wide sulci in every slice, and nothing else
    >>> {name: share for name, share in vars(atrophy).items() if share}
    {'sulci': 1.0}
    """

    ventricles: float = 0.35
    sulci: float = 0.35
    swelling: float = 0.1
    skull: float = 0.3
    marrow: float = 0.3
    no_marrow: float = 0.2
    air_cells: float = 0.6
    frontal_sinus: float = 0.12
    scalp: float = 0.35
    calcified_plexus: float = 0.25
    cut_field: float = 0.08
    cut_plane: float = 0.04


PLAIN_ANATOMY = AnatomySettings(**{each.name: 0.0 for each in fields(AnatomySettings)})
"""Heads as they are in the maps; only soft tissue is parted into fat, muscle and skin."""


def vary(
    classes: torch.Tensor, table: TissueTable, draw: Draw, settings: AnatomySettings
) -> torch.Tensor:
    """Change heads to those of other people.

    Parameters
    ----------
    classes : uint8 tensor (N, sublayers, H, W)
    table : TissueTable
    draw : Draw
    settings : AnatomySettings

    Returns
    -------
    uint8 tensor (N, sublayers, H, W)
    """
    head = _Heads(classes, table, draw)
    head.widen_ventricles(draw.chance(settings.ventricles))
    wide = draw.chance(settings.sulci)
    head.widen_sulci(wide)
    head.close_sulci(draw.chance(settings.swelling) & ~wide)
    head.calcify_plexus(draw.chance(settings.calcified_plexus))
    head.change_skull(draw.chance(settings.skull))
    spongy = draw.chance(settings.marrow)
    head.change_marrow(spongy, draw.chance(settings.no_marrow) & ~spongy)
    head.put_air_cells(draw.chance(settings.air_cells))
    head.put_frontal_sinus(draw.chance(settings.frontal_sinus))
    head.thicken_scalp(draw.chance(settings.scalp))
    head.part_soft_tissue()
    return head.classes


def cut_off(classes: torch.Tensor, draw: Draw, settings: AnatomySettings) -> torch.Tensor:
    """Leave out what lies beyond the field's borders or an oblique plane.

    Parameters
    ----------
    classes : uint8 tensor (N, sublayers, H, W)
    draw : Draw
    settings : AnatomySettings

    Returns
    -------
    uint8 tensor (N, sublayers, H, W)
        Air there.
    """
    head = (classes > 0).any(1)
    height, width = head.shape[1:]
    side = torch.arange(max(height, width), device=head.device)
    rows, columns = side[None, :height, None], side[None, None, :width]
    outside = torch.zeros_like(head)
    for _ in range(2):
        wanted = draw.chance(settings.cut_field)
        depth, edge = draw.uniform(4, 45), draw.choice((0, 1, 2, 3))
        for place, (along, axis) in enumerate(((rows, 2), (columns, 1)) * 2):
            low, high = _extent(head.any(axis))
            beyond = (
                along < per_slice(low + depth) if place < 2 else along > per_slice(high - depth)
            )
            outside |= per_slice(wanted & (edge == place)) & beyond
    turn = draw.uniform(0, 2 * torch.pi)
    across = per_slice(turn.sin()) * rows + per_slice(turn.cos()) * columns
    reach = torch.where(head, across, -torch.inf).flatten(1).amax(1)
    limit = per_slice(reach - draw.uniform(5, 60))
    outside |= per_slice(draw.chance(settings.cut_plane)) & (across > limit)
    return torch.where(outside[:, None], 0, classes)


def _extent(hits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first and the last hit of each row of (N, L)."""
    places = torch.arange(hits.shape[1], device=hits.device)
    first = torch.where(hits, places, hits.shape[1]).amin(1)
    return first, torch.where(hits, places, -1).amax(1)


class _Heads:
    """A batch of heads while it is changed: `classes` (N, sublayers, H, W)."""

    def __init__(self, classes: torch.Tensor, table: TissueTable, draw: Draw) -> None:
        self.classes, self.table, self.draw = classes, table, draw
        middle = self.mid
        share = table.is_any(middle, *BRAIN).float().mean((1, 2))
        self.low = table.is_any(middle, *LOW).any(2).any(1)
        self.upper = (share > _UPPER) & ~self.low

    @property
    def mid(self) -> torch.Tensor:
        return mid_layer(self.classes)

    def middle(self, *names: str) -> torch.Tensor:
        """Where the middle layer shows these tissues: (N, H, W)."""
        return self.table.is_any(self.mid, *names)

    def put(self, tissue: str, where: torch.Tensor, *over: str) -> None:
        """Put a tissue in the pixels (N, H, W) of every layer that show one of `over`."""
        replaced = where[:, None] & self.table.is_any(self.classes, *over)
        self.classes = torch.where(replaced, self.table.index(tissue), self.classes).to(torch.uint8)

    def varied(self, low: float, high: float, spread: float, scale: float) -> torch.Tensor:
        """Draw a length a slice, in pixels, that varies from place to place: (N, H, W)."""
        length = per_slice(self.draw.uniform(low, high))
        return length * (1 + spread * self.draw.field(scale))

    def widen_ventricles(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        ventricle = self.middle("ventricle")
        radius = self.varied(1, 11, 0.25, 60)
        columns = torch.arange(ventricle.shape[2], device=ventricle.device)[None, None]
        count = ventricle.sum((1, 2)).clamp(min=1)
        center = (ventricle * columns).sum((1, 2)) / count
        one_sided, left = self.draw.chance(0.2), self.draw.chance(0.5)
        spared = per_slice(one_sided) & ((columns < per_slice(center)) == per_slice(left))
        radius = torch.where(spared, 0.2 * radius, radius)
        near = distance(ventricle, 14) < radius
        over = ("white_matter", "deep_gray", "choroid_plexus")
        self.put("ventricle", near & per_slice(which), *over)
        thin = which & self.draw.chance(0.4)
        self.put("ventricle", near & per_slice(thin), "cortex")

    def widen_sulci(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        radius = self.varied(0.5, 2.2, 0.25, 75)
        from_fluid = distance(self.middle("csf"), 7)
        from_cortex = distance(self.middle("cortex"), 5)
        chosen = per_slice(which)
        ribbon = (from_fluid >= radius) & (from_fluid < radius + 2.3)
        self.put("cortex", chosen & ribbon & (from_cortex < radius + 1.5), "white_matter")
        self.put("csf", chosen & (from_fluid < radius), "cortex", "white_matter")

    def close_sulci(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        near = distance(self.middle("cortex"), 3) < per_slice(self.draw.uniform(1, 3))
        self.put("cortex", near & per_slice(which), "csf")

    def calcify_plexus(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        patches = self.draw.field(4) > -0.5
        self.put("calcification", patches & per_slice(which), "choroid_plexus")

    def change_skull(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        bone = self.middle(*BONE)
        thicker = self.draw.chance(0.55)
        near = distance(bone, 6) < self.varied(0.8, 4, 0.3, 75)
        self.put("compact_bone", near & per_slice(which & thicker), "soft_tissue", "skin")
        outer = distance(~solid(bone), 4) < self.varied(0.5, 2.4, 0.3, 75)
        self.put("soft_tissue", outer & per_slice(which & ~thicker), *BONE)

    def change_marrow(self, more: torch.Tensor, less: torch.Tensor) -> None:
        if not (more | less).any():
            return
        depth = distance(~self.middle(*BONE), 4)
        deep = depth > per_slice(self.draw.uniform(1.5, 3))
        self.put("spongy_bone", deep & per_slice(more), "compact_bone")
        everywhere = torch.ones_like(deep)
        self.put("compact_bone", everywhere & per_slice(less), "spongy_bone")

    def put_air_cells(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        deep = distance(~self.middle(*BONE), 2) > 1
        speckle = self.draw.field(6) + 0.7 * self.draw.field(54)
        cells = deep & (speckle > per_slice(self.draw.uniform(0.3, 1.4)))
        filled = self.draw.chance(0.25)
        base = which & self.low & ~self.upper
        self.put("enclosed_air", cells & per_slice(base & ~filled), *BONE)
        self.put("mucosa", cells & per_slice(base & filled), *BONE)

    def put_frontal_sinus(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        bone = self.middle(*BONE)
        rows = torch.arange(bone.shape[1], device=bone.device)[None, :, None]
        columns = torch.arange(bone.shape[2], device=bone.device)[None, None]
        first, _ = _extent(bone.any(2))
        center = self.draw.point_in(bone & (rows < per_slice(first + 6)))
        across = (columns - per_slice(center[:, 1])) / per_slice(self.draw.uniform(6, 22))
        along = (rows - per_slice(center[:, 0]) - 6) / per_slice(self.draw.uniform(2, 5))
        sinus = torch.hypot(across, along) + 0.2 * self.draw.field(15) < 1
        chosen = per_slice(which & self.upper & bone.any(2).any(1))
        wall = distance(sinus, 2) <= 2
        self.put("compact_bone", wall & chosen, "soft_tissue", *BONE)
        self.put("enclosed_air", sinus & chosen, *BONE)

    def thicken_scalp(self, which: torch.Tensor) -> None:
        if not which.any():
            return
        head = solid((self.classes > 0).any(1))
        added = ~head & (distance(head, 12) < self.varied(1, 9, 0.3, 66))
        self.put("soft_tissue", added & per_slice(which), "air")
        everywhere = torch.ones_like(head)
        self.put("soft_tissue", everywhere & per_slice(which), "skin")

    def part_soft_tissue(self) -> None:
        """Part soft tissue, of which maps tell nothing more, into fat, muscle and skin."""
        draw, middle = self.draw, self.mid
        depth = distance(~solid(middle > 0), 24)
        from_bone = distance(self.middle(*BONE), 24)
        from_eye = distance(self.middle("eye"), 14)
        upper = per_slice(self.upper)
        threshold = per_slice(draw.uniform(-0.3, 1.2)).expand(depth.shape)
        scalp = torch.where(self.upper, draw.uniform(14, 30), draw.uniform(8, 13))
        threshold = torch.where(depth + from_bone < per_slice(scalp), -1.2, threshold)
        threshold = torch.where(depth < per_slice(draw.uniform(3, 7)), -1.5, threshold)
        threshold = torch.where(from_eye < 14, -1.3, threshold)
        layer = from_bone < per_slice(draw.uniform(1.5, 4))  # galea, temporal muscle
        muscled = layer & upper & per_slice(draw.chance(0.5))
        threshold = torch.where(muscled, per_slice(draw.uniform(-0.5, 2)), threshold)
        fat = draw.field(18) + 0.6 * draw.field(4) > threshold
        skin = depth <= per_slice(draw.uniform(1.2, 2.8))
        # A map's skin can be as thick as the scalp; beneath its surface it is mostly fat.
        fatty = fat | per_slice(draw.chance(0.8))
        self.put("fat", ~skin & fatty, "skin")
        self.put("muscle", ~skin & ~fatty, "skin")
        self.put("fat", ~skin & fat, "soft_tissue")
        self.put("muscle", ~skin & ~fat, "soft_tissue")
        self.put("skin", skin, "soft_tissue")
