"""A step as one CUDA graph: a GPU gets one launch a step, instead of a thousand from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from medtranslate.training.objective import Losses
from medtranslate.training.step import Given


class CapturedStep:
    """Runs a step as it is until it is ready, then captures it, and replays it from there on.

    What is captured reads and writes the same memory every time, so what a step is given is copied
    into place first, and generators of random numbers take the seed that they have at the replay.
    The sizes of what it is given must not change.

    Parameters
    ----------
    step : callable
        Of a dict of tensors; returns the losses.
    ready : callable
        Says whether the step does the same as all later ones will: image pools are full.
    draws : iterable of torch.Generator
        Those that the step draws from.
    device : torch.device
        A CUDA device.
    """

    WARM_UP = 3
    """Steps before it can be captured: kernels are compiled and chosen, Adam's moments made."""

    def __init__(
        self,
        step: Callable[[Given], Losses],
        ready: Callable[[], bool],
        draws: Iterable[torch.Generator],
        device: torch.device,
    ) -> None:
        self._step, self._ready, self._draws = step, ready, tuple(draws)
        self._stream = torch.cuda.Stream(device)
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, given: Given) -> Losses:
        """Take the step."""
        if self._graph is None and (self._taken < self.WARM_UP or not self._ready()):
            self._taken += 1
            return self._beside(given)
        if self._graph is None:
            self._graph = self._capture(given)
        for name, tensor in given.items():
            self._given[name].copy_(tensor)
        self._graph.replay()
        return dict(zip(self._names, self._losses.clone(), strict=True))

    def _beside(self, given: Given) -> Losses:
        """Run it on the stream on which it will be captured: gradients belong to their stream."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = self._step(given)
        current.wait_stream(self._stream)
        return losses

    def _capture(self, given: Given) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for draws in self._draws:
            graph.register_generator_state(draws)
        self._given = {name: tensor.clone() for name, tensor in given.items()}
        with torch.cuda.graph(graph, stream=self._stream):
            losses = self._step(self._given)
            self._names, self._losses = list(losses), torch.stack(list(losses.values()))
        return graph
