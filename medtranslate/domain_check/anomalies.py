"""Anomalies of a scan: their names, and synthetic examples to train classifiers on.

All functions work on half-resolution slices (`features.half_resolution`): float32 (N, 2, 128, 128),
brightness and head fraction. Randomness comes from one generator, so a calibration is repeatable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

GENUINE = "genuine"
ON_ITS_SIDE = "on its side"
FUNCTIONAL = "functional"
OTHER_PLANE = "other plane"
ORIENTATION_ANOMALIES = {
    "upside down": "upside down: rotated by 180 degrees or mirrored top to bottom",
    ON_ITS_SIDE: "lying on its side: rotated by about 90 degrees",
    "turned": "turned in the slice plane, far from upright",
}
"""Orientations other than upright: name and message."""

CONTENT_ANOMALIES = {
    "inverted": "dark and bright are exchanged: inverted contrast",
    "other modality": "looks like {other}, not like {modality}",
    "cut off": "only a part of a head: much of it lies outside the field of view",
    "no head": "looks like no head: another body part, a phantom or noise",
}
"""Contents other than a head in its modality: name and message."""

VIEW_ANOMALIES = {
    FUNCTIONAL: "blurred and without a skull, as SPECT and PET are: not {modality}",
    OTHER_PLANE: "a coronal or sagittal slice, not an axial one",
}
"""Views of a head other than axial slices of its modality: name and message. A check that was
calibrated without slices of other planes does not know them."""

ANOMALIES = {**ORIENTATION_ANOMALIES, **CONTENT_ANOMALIES, **VIEW_ANOMALIES}
"""All anomalies, in the order in which `AnomalyEnsemble.log_odds` returns them."""

IGNORED = -100
"""Label of an example without a defined class; `torch.nn.functional.cross_entropy` skips it."""

BROADENED = {"CT": 1.0, "MR": 1.15}
"""Largest broadening, left to right, of a head that still lies as it should. Large tumors, for
which many an MR is acquired, broaden a head; in CT, breadth is most of what shows that it is on
its side."""

# Probabilities: upright, then the ORIENTATION_ANOMALIES.
_ORIENTATION_SHARES = torch.tensor([0.37, 0.30, 0.15, 0.18])
# Probabilities: genuine, the CONTENT_ANOMALIES, random contrast.
_CONTENT_SHARES = torch.tensor([0.37, 0.13, 0.15, 0.07, 0.18, 0.10])
# Relative to each other: genuine, the VIEW_ANOMALIES; and of any orientation instead of upright.
_VIEW_SHARES = torch.tensor([0.4, 0.2, 0.4])
_VIEW_TURNED = 0.3


@dataclass(frozen=True, eq=False)
class Examples:
    """Synthetic half-resolution slices with labels.

    Attributes
    ----------
    slices : float32 tensor (N, 2, 128, 128)
    orientations : int64 tensor (N,)
        0 for upright, else 1 + index in `ORIENTATION_ANOMALIES`; `IGNORED` where there is no head.
    contents : int64 tensor (N,)
        0 for genuine, else 1 + index in `CONTENT_ANOMALIES`; `IGNORED` for a random contrast.
    """

    slices: torch.Tensor
    orientations: torch.Tensor
    contents: torch.Tensor


@dataclass(frozen=True, eq=False)
class AnomalySynthesizer:
    """Synthesize examples of one modality from genuine slices.

    Parameters
    ----------
    modality : {"CT", "MR"}
    random : torch.Generator
        On the CPU; advanced by every call.
    """

    modality: str
    random: torch.Generator

    def genuine(self, halves: torch.Tensor) -> torch.Tensor:
        """Vary slices as scanners and recipes do: size, tilt, field of view, contrast, noise."""
        upright = torch.zeros(len(halves), dtype=torch.int64)
        return self._acquired(self._placed(self._shaded(halves), self._degrees(upright)))

    def broadened(self, halves: torch.Tensor) -> torch.Tensor:
        """Broaden heads by random factors from 1 to `BROADENED`."""
        n = len(halves)
        theta = torch.eye(2, 3).repeat(n, 1, 1)
        theta[:, 0, 0] = 1 / self.uniform(n, 1, BROADENED[self.modality])
        return _resampled(halves, theta)

    def examples(self, own: torch.Tensor, other: torch.Tensor) -> Examples:
        """Synthesize one example from each slice, with random labels.

        Parameters
        ----------
        own, other : float32 tensors (N, 2, 128, 128)
            Genuine slices of this modality, and of the other.
        """
        n, random = len(own), self.random
        orientations = torch.multinomial(_ORIENTATION_SHARES, n, True, generator=random)
        contents = torch.multinomial(_CONTENT_SHARES, n, True, generator=random)
        kinds = (GENUINE, *CONTENT_ANOMALIES, "random contrast")
        slices = torch.empty_like(own)
        for label, content in enumerate(kinds):
            here = contents == label
            if here.any():
                base = other if content == "other modality" else own
                slices[here] = self.synthesize(content, base[here], orientations[here])
        orientations[contents == kinds.index("no head")] = IGNORED
        contents[contents == kinds.index("random contrast")] = IGNORED
        return Examples(slices, orientations, contents)

    def views(self, axial: torch.Tensor, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Synthesize one view from each pair of slices.

        Parameters
        ----------
        axial, planes : float32 tensors (N, 2, 128, 128)
            Axial slices of this modality; coronal and sagittal ones.

        Returns
        -------
        slices : float32 tensor (N, 2, 128, 128)
        labels : int64 tensor (N,)
            0 for genuine, else 1 + index in `VIEW_ANOMALIES`.
        """
        n = len(axial)
        labels = torch.multinomial(_VIEW_SHARES, n, True, generator=self.random)
        orientations = torch.multinomial(_ORIENTATION_SHARES, n, True, generator=self.random)
        orientations = torch.where(self.chance(n, _VIEW_TURNED), orientations, 0)
        slices = torch.empty_like(axial)
        for label, view in enumerate((GENUINE, *VIEW_ANOMALIES)):
            here = labels == label
            if here.any():
                base = planes if view == OTHER_PLANE else axial
                slices[here] = self.synthesize(view, base[here], orientations[here])
        return slices, labels

    def synthesize(
        self, content: str, halves: torch.Tensor, orientations: torch.Tensor
    ) -> torch.Tensor:
        """Synthesize examples of one content.

        Parameters
        ----------
        content : str
            ``"genuine"``, one of `CONTENT_ANOMALIES` or `VIEW_ANOMALIES`, or
            ``"random contrast"``.
        halves : float32 tensor (N, 2, 128, 128)
            Genuine slices: of the other modality for ``"other modality"``, of the other planes for
            ``"other plane"``.
        orientations : int64 tensor (N,)
            As in `Examples`.
        """
        if content == "no head":
            return self._acquired(self._no_head(halves))
        if content == FUNCTIONAL:
            return self._placed(self._functional(halves), self._degrees(orientations))
        shaded = halves if content == "other modality" else self._shaded(halves)
        placed = self._placed(shaded, self._degrees(orientations))
        if content == "inverted":
            placed = self._inverted(placed)
        elif content == "other modality":
            placed = self._misread(placed)
        elif content == "cut off":
            placed = self._trimmed(placed, 0.35, 0.7)
        elif content == "random contrast":
            placed = self._recolored(placed)
        return self._acquired(placed)

    def uniform(self, count: int, low: float, high: float) -> torch.Tensor:
        """Draw (count,) numbers uniformly from low to high."""
        return torch.rand(count, generator=self.random) * (high - low) + low

    def chance(self, count: int, probability: float) -> torch.Tensor:
        """Draw (count,) booleans that are True with a probability."""
        return torch.rand(count, generator=self.random) < probability

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw from the standard normal distribution."""
        return torch.randn(*shape, generator=self.random)

    # Anomalies of a head ------------------------------------------------------------------------

    def _degrees(self, orientations: torch.Tensor) -> torch.Tensor:
        n = len(orientations)
        side = torch.where(self.chance(n, 0.5), 90.0, -90.0)
        quarter = torch.randint(0, 4, (n,), generator=self.random) * 90.0
        middle = torch.stack([torch.zeros(n), torch.full((n,), 180.0), side, 45 + quarter])
        reach = torch.tensor([12.0, 12.0, 12.0, 15.0])[orientations]
        return middle.gather(0, orientations[None])[0] + self.uniform(n, -1, 1) * reach

    def _inverted(self, halves: torch.Tensor) -> torch.Tensor:
        shade, cover = halves.unbind(1)
        # The field of view, whose bright background then counts as head, or the head alone.
        everywhere = self.chance(len(halves), 0.5)[:, None, None]
        inside = torch.where(everywhere, self._fields_of_view(len(halves), shade.shape[1]), cover)
        return torch.stack([(inside - shade).clamp(min=0), inside], dim=1)

    def _misread(self, halves: torch.Tensor) -> torch.Tensor:
        """Return the other modality as its 2D images look, or as its volume units are misread."""
        n = len(halves)
        shade, cover = halves.unbind(1)
        value = shade / cover.clamp(min=0.01)
        if self.modality == "CT":
            # MR units read as HU: nearly all of it beyond the window.
            gain = self.uniform(n, 1.5, 15.0)[:, None, None]
            strange = (value * gain - self.uniform(n, 0, 0.5)[:, None, None]).clamp(0, 1)
        else:
            # HU scaled by percentiles: soft tissue in one narrow band, bone above it.
            middle = self.uniform(n, 0.15, 0.6)[:, None, None]
            bone = middle + (1 - middle) * self.uniform(n, 0.4, 1.0)[:, None, None]
            soft = middle * torch.where(value < 0.02, 0.9, 1.0) + 0.08 * (value - 0.4)
            strange = torch.where(value > 0.97, bone, soft).clamp(0, 1)
        value = torch.where(self.chance(n, 0.4)[:, None, None], strange, value)
        return self._filled(value, cover)

    def _recolored(self, halves: torch.Tensor) -> torch.Tensor:
        """Apply a random contrast: a curve through five points."""
        n = len(halves)
        shade, cover = halves.unbind(1)
        at = (shade / cover.clamp(min=0.01)).clamp(0, 1) * 3.999
        knots = torch.rand(n, 5, generator=self.random)
        low = at.floor().long().flatten(1)
        part = at.flatten(1) - low
        value = knots.gather(1, low) * (1 - part) + knots.gather(1, low + 1) * part
        return self._filled(value.view_as(shade), cover)

    def _functional(self, halves: torch.Tensor) -> torch.Tensor:
        """Draw activity as SPECT and PET show it: the brain alone, patchy and blurred."""
        n, side = len(halves), halves.shape[-1]
        brain = halves[:, 1:]
        for depth, share in ((3, 1.0), (2, 0.6), (2, 0.5)):  # of 1.8 mm: scalp and skull
            smaller = 1 - F.max_pool2d(1 - brain, 2 * depth + 1, 1, depth)
            enough = smaller.mean((1, 2, 3)) > 0.03
            brain = torch.where(_column(enough & self.chance(n, share)), smaller, brain)
        patches = F.interpolate(self.normal(n, 1, 7, 7), (side, side), mode="bilinear")
        activity = self._recolored(halves)[:, :1] * (1 + 0.4 * patches).clamp(min=0.1) * brain
        for width, share in ((3, 1.0), (3, 1.0), (5, 0.7), (7, 0.5)):
            soft = F.avg_pool2d(activity, width, 1, width // 2)
            activity = torch.where(_column(self.chance(n, share)), soft, activity)
        activity = activity / activity.amax((2, 3), keepdim=True).clamp(min=1e-3)
        shown = (activity > _column(self.uniform(n, 0.08, 0.3))).float()
        return torch.cat([activity * shown, shown], dim=1)

    def _no_head(self, own: torch.Tensor) -> torch.Tensor:
        drawers = (self._organs, self._objects, self._noise, self._shuffled, self._blank)
        which = torch.randint(0, len(drawers), (len(own),), generator=self.random)
        drawn = torch.empty_like(own)
        for index, draw in enumerate(drawers):
            chosen = which == index
            if chosen.any():
                drawn[chosen] = draw(own[chosen])
        return drawn

    # No head at all -------------------------------------------------------------------------

    def _organs(self, own: torch.Tensor) -> torch.Tensor:
        """Draw a wide body, a round limb or a phantom: a rim around ellipses of any brightness."""
        n, side = len(own), own.shape[-1]
        limb = self.chance(n, 0.5)
        wide = torch.where(limb, self.uniform(n, 0.7, 1.25), self.uniform(n, 1.25, 1.9))
        half = torch.where(limb, self.uniform(n, 0.15, 0.65), self.uniform(n, 0.6, 0.97))
        depth = self._superellipse(side, half, half / wide, self.uniform(n, 2, 3))
        outline = depth < 1
        value = torch.ones(n, 1, 1) * self.uniform(n, 0.1, 1.0)[:, None, None]
        value = value.expand(n, side, side).clone()
        for _ in range(8):
            here = self.chance(n, 0.7)
            size = half * self.uniform(n, 0.04, 0.45)
            x, y = (half * self.uniform(n, -0.7, 0.7) for _ in range(2))
            high, power = size * self.uniform(n, 0.5, 2.0), torch.full((n,), 2.0)
            inner = self._superellipse(side, size, high, power, x, y / wide)
            paired = self.chance(n, 0.4)[:, None, None]  # as lungs, kidneys and eyes are
            inner = torch.where(paired, inner.minimum(inner.flip(2)), inner)
            fill = self.uniform(n, 0, 1)[:, None, None]
            value = torch.where((inner < 1) & here[:, None, None], fill, value)
        rim = (1 - self.uniform(n, 0.0, 0.2))[:, None, None]
        value = torch.where(depth > rim, self.uniform(n, 0, 1)[:, None, None], value)
        return self._filled(self._grainy(value), outline.float())

    def _objects(self, own: torch.Tensor) -> torch.Tensor:
        """Draw a box, a disc or an ellipse: uniform, or with a slow gradient."""
        n, side = len(own), own.shape[-1]
        half, ratio = self.uniform(n, 0.15, 0.98), self.uniform(n, 0.55, 1.6)
        power = torch.where(self.chance(n, 0.4), 40.0, self.uniform(n, 2, 4))
        depth = self._superellipse(side, half, (half * ratio).clamp(max=0.99), power)
        steps = torch.linspace(-1, 1, side)
        slope = self.normal(n, 2, 1) * 0.15 * self.chance(n, 0.5)[:, None, None]
        value = self.uniform(n, 0.1, 1)[:, None, None] + (
            slope[:, 0, :, None] * steps[None, :, None] + slope[:, 1, :, None] * steps[None, None]
        )
        return self._filled(self._grainy(value), (depth < 1).float())

    def _noise(self, own: torch.Tensor) -> torch.Tensor:
        """Draw noise of any grain size, over the field of view or inside a head outline."""
        n, side = len(own), own.shape[-1]
        grains = [
            F.interpolate(self.normal(n, 1, size, size), (side, side), mode="bilinear")[:, 0]
            for size in (128, 64, 32, 16, 8, 4)
        ]
        weights = torch.rand(n, len(grains), generator=self.random) ** 3
        weights = weights / weights.norm(dim=1, keepdim=True)
        field = torch.einsum("ng,nghw->nhw", weights, torch.stack(grains, dim=1))
        value = 0.5 + field * self.uniform(n, 0.08, 0.4)[:, None, None]
        cover = torch.where(self.chance(n, 0.6)[:, None, None], 1.0, own[:, 1])
        return self._filled(value.clamp(0, 1), cover)

    def _shuffled(self, own: torch.Tensor) -> torch.Tensor:
        """Shuffle pieces of a head."""
        n, side = len(own), own.shape[-1]
        piece = side // 4
        pieces = own.unfold(2, piece, piece).unfold(3, piece, piece)
        order = torch.rand(n, 16, generator=self.random).argsort(1)
        flat = pieces.reshape(n, 2, 16, piece, piece).permute(0, 2, 1, 3, 4)
        mixed = flat.gather(1, order[:, :, None, None, None].expand_as(flat))
        return (
            mixed.permute(0, 2, 1, 3, 4)
            .reshape(n, 2, 4, 4, piece, piece)
            .permute(0, 1, 2, 4, 3, 5)
            .reshape(n, 2, side, side)
        )

    def _blank(self, own: torch.Tensor) -> torch.Tensor:
        """Draw the outline of a head with a uniform inside."""
        even = self.uniform(len(own), 0.1, 1)[:, None, None].expand_as(own[:, 0])
        return self._filled(self._grainy(even), own[:, 1])

    def _superellipse(
        self,
        side: int,
        across: torch.Tensor,
        along: torch.Tensor,
        power: torch.Tensor,
        x: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return (N, side, side): below 1 inside, above 1 outside."""
        steps = torch.linspace(-1, 1, side)
        x = torch.zeros_like(across) if x is None else x
        y = torch.zeros_like(along) if y is None else y
        u = (steps[None, None, :] - x[:, None, None]).abs() / across[:, None, None]
        v = (steps[None, :, None] - y[:, None, None]).abs() / along[:, None, None]
        p = power[:, None, None]
        return (u.clamp(max=3) ** p + v.clamp(max=3) ** p) ** (1 / p)

    def _grainy(self, value: torch.Tensor) -> torch.Tensor:
        """Add the slight noise of any measured image."""
        grain = self.uniform(len(value), 0.002, 0.05)[:, None, None]
        return (value + grain * self.normal(*value.shape)).clamp(0, 1)

    def _filled(self, value: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
        return torch.stack([value * cover, cover], dim=1)

    def _fields_of_view(self, count: int, side: int) -> torch.Tensor:
        """Return masks: the full square, or the tall or wide part that a 2D image covers."""
        steps = torch.linspace(-1, 1, side).abs()
        reach = torch.where(self.chance(count, 0.5), 1.0, self.uniform(count, 0.7, 1))
        narrow = (steps[None] <= reach[:, None]).float()
        lying = self.chance(count, 0.5)[:, None]
        rows = torch.where(lying, narrow, 1.0)
        columns = torch.where(lying, 1.0, narrow)
        return rows[:, :, None] * columns[:, None, :]

    # Variation --------------------------------------------------------------------------------

    def _placed(self, halves: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
        """Rotate, scale and mirror, and cut a little of some."""
        n = len(halves)
        turn, scale = torch.deg2rad(degrees), 1 / self.uniform(n, 0.8, 1.12)
        flip = torch.where(self.chance(n, 0.5), 1.0, -1.0)
        wide = self.uniform(n, 0.95, 1.05)
        cos, sin, zeros = turn.cos() * scale, turn.sin() * scale, torch.zeros(n)
        theta = torch.stack(
            [
                torch.stack([cos * flip * wide, -sin, zeros], dim=1),
                torch.stack([sin * flip * wide, cos, zeros], dim=1),
            ],
            dim=1,
        )
        placed = _resampled(halves, theta)
        some = self.chance(n, 0.15)[:, None, None, None]
        return torch.where(some, self._trimmed(placed, 0.0, 0.08), placed)

    def _trimmed(self, halves: torch.Tensor, least: float, most: float) -> torch.Tensor:
        """Cut a share of each head's bounding box away at one side."""
        n, side = len(halves), halves.shape[-1]
        share = self.uniform(n, least, most)
        which = torch.randint(0, 4, (n,), generator=self.random)
        kept = torch.ones_like(halves[:, 0])
        at = torch.arange(side)
        for place in range(4):
            across, back = divmod(place, 2)
            profile = (halves[:, 1] >= 0.5).any(1 + across)
            first = torch.where(profile, at, side).amin(1).float()
            last = torch.where(profile, at + 1, 0).amax(1).float()
            cut = (last - first).clamp(min=0) * share
            keep = at[None] < (last - cut)[:, None] if back else at[None] >= (first + cut)[:, None]
            keep = keep[:, None, :] if across == 0 else keep[:, :, None]
            kept = torch.where((which == place)[:, None, None], keep.float(), kept)
        return halves * kept[:, None]

    def _shaded(self, halves: torch.Tensor) -> torch.Tensor:
        """Vary the contrast as scanners and protocols do; a CT varies little, having units."""
        n = len(halves)
        shade, cover = halves.unbind(1)
        value = shade / cover.clamp(min=0.01)
        if self.modality == "MR":
            value = value.clamp(0, 1) ** torch.exp(self.normal(n) * 0.25)[:, None, None]
            value = value * self.uniform(n, 0.7, 1.4)[:, None, None]
            slope = self.normal(n, 2) * 0.12
            steps = torch.linspace(-1, 1, halves.shape[-1])
            bias = 1 + slope[:, 0, None, None] * steps[:, None] + slope[:, 1, None, None] * steps
            value = value * bias.clamp(min=0.3)
        else:
            gain = self.uniform(n, 0.9, 1.1)[:, None, None]
            soft = 0.4 + (value - 0.4) * gain + self.uniform(n, -0.05, 0.05)[:, None, None]
            # Values outside the window stay outside it.
            value = torch.where((value > 0.97) | (value < 0.02), value, soft)
        return torch.stack([value.clamp(0, 1) * cover, cover], dim=1)

    def _acquired(self, halves: torch.Tensor) -> torch.Tensor:
        """Add noise and blur."""
        n = len(halves)
        shade, cover = halves.unbind(1)
        soft = F.avg_pool2d(shade[:, None], 3, 1, 1)[:, 0]
        blur = (self.chance(n, 0.3) * self.uniform(n, 0, 1))[:, None, None]
        shade = shade + blur * (soft - shade)
        loud = (self.chance(n, 0.4) * self.uniform(n, 0, 0.06))[:, None, None]
        noisy = shade + loud * self.normal(*shade.shape) * cover
        return torch.stack([noisy.clamp(min=0).minimum(cover), cover], dim=1)


def _column(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _resampled(halves: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    grid = F.affine_grid(theta, list(halves.shape), align_corners=False)
    return F.grid_sample(halves, grid, padding_mode="zeros", align_corners=False)
