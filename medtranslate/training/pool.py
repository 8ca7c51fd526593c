"""The image pool: a discriminator sees earlier fakes too (Shrivastava et al. 2017, section 2.3)."""

from __future__ import annotations

import torch


class ImagePool:
    """Keeps some of the fakes of earlier steps, and shows one of them half of the time.

    Parameters
    ----------
    size : int
        Pictures kept; 0 makes a pool that gives back what it is given.

    Attributes
    ----------
    kept : tensor (N, C, H, W) or None
        N grows to `size` before anything is exchanged. Fakes of another size empty the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: torch.Tensor | None = None

    def full(self, shape: tuple[int, ...]) -> bool:
        """Say whether as many fakes of a shape (C, H, W) are kept as ever will be."""
        if self.size == 0:
            return True
        return self.kept is not None and self.kept.shape == (self.size, *shape)

    def exchange(self, fakes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Take in new fakes, give as many, some of them older.

        Parameters
        ----------
        fakes : tensor (B, C, H, W)
            Without gradient.
        generator : torch.Generator
            On the fakes' device: nothing here waits for it.
        """
        if self.size == 0:
            return fakes
        if self.kept is not None and self.kept.shape[1:] != fakes.shape[1:]:
            self.kept = None
        fresh = self.size - (0 if self.kept is None else len(self.kept))
        filling, rest = fakes[:fresh], fakes[fresh:]
        if len(filling):
            self.kept = filling.clone() if self.kept is None else torch.cat([self.kept, filling])
        if not len(rest):
            return filling
        return torch.cat([filling, *(self._swap(p, generator) for p in rest.split(self.size))])

    def _swap(self, fakes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Exchange each fake for a different kept picture with probability one half."""
        assert self.kept is not None
        device = fakes.device
        places = torch.rand(self.size, generator=generator, device=device).argsort()[: len(fakes)]
        older = torch.rand(len(fakes), 1, 1, 1, generator=generator, device=device) < 0.5
        earlier = self.kept[places]
        self.kept[places] = torch.where(older, fakes, earlier)
        return torch.where(older, earlier, fakes)
