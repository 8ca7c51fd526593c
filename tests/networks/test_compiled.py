"""Generators that OpenVINO computes give what torch gives."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medtranslate.errors import ModelUnusable
from medtranslate.networks import (
    Compact,
    GrayThroughRGB,
    ResNet9,
    UNet256,
    build_generator,
    draw_weights,
    fix_contrast,
)
from medtranslate.networks.compiled import OpenVINONetwork

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra openvino is not installed"
)

HALF_A_GRAY_LEVEL = 0.5 / 127.5
UNET = {"_target_": "monai.networks.nets.UNet", "channels": [8, 16], "strides": [2]}


def in_flair() -> nn.Module:
    network = Compact(width=16, blocks=1, contrasts=("t1", "flair"))
    for name, weight in network.named_parameters():
        if ".contrast." in name:
            nn.init.normal_(weight, 0, 0.5)
    return fix_contrast(network, 2)


GENERATORS = {
    "compact, flair": in_flair,
    "resnet9": lambda: ResNet9(width=8, blocks=1),
    "resnet9, rgb": lambda: GrayThroughRGB(ResNet9(3, 3, width=8, blocks=1)),
    "unet256": lambda: UNet256(width=4),
    "a network of monai": lambda: build_generator(UNET),
}


@pytest.fixture
def slices() -> torch.Tensor:
    return torch.rand(2, 1, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def compact() -> nn.Module:
    torch.manual_seed(0)
    return draw_weights(Compact(width=16, blocks=1), 0.2).eval()


def distance(network: nn.Module, compiled: nn.Module, slices: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((compiled(slices) - network(slices)).abs().max())


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_gives_what_torch_gives_in_any_batch(name, slices) -> None:
    torch.manual_seed(0)
    network = draw_weights(GENERATORS[name](), 0.2).eval()
    compiled = OpenVINONetwork(network)
    for some in (slices, slices[:1]):
        assert distance(network, compiled, some) < HALF_A_GRAY_LEVEL
    assert float(compiled(slices).std()) > 0.01


def test_it_takes_slices_of_any_float_type_and_layout(compact, slices) -> None:
    compiled = OpenVINONetwork(compact)
    mirrored = slices.flip(-1).transpose(-1, -2).half()
    assert not mirrored.is_contiguous()
    assert compiled(MetaTensor(mirrored)).dtype == torch.float32
    assert distance(compact, compiled, mirrored.float()) < HALF_A_GRAY_LEVEL


def test_the_network_may_change_afterward(compact, slices) -> None:
    compiled, before = OpenVINONetwork(compact), compact(slices).detach()
    nn.init.zeros_(compact.unfold[-1].conv.weight)
    assert float((compiled(slices) - before).abs().max()) < HALF_A_GRAY_LEVEL


@pytest.mark.parametrize("again", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_compiles_for_itself(compact, slices, again) -> None:
    compiled = OpenVINONetwork(compact)
    expected = compiled(slices)
    assert torch.equal(again(compiled)(slices), expected)


def test_threads_share_it(compact, slices) -> None:
    compiled = OpenVINONetwork(compact)
    expected = compiled(slices)
    with ThreadPoolExecutor(2) as pool:
        assert all(torch.equal(one, expected) for one in pool.map(compiled, [slices] * 4))


def test_what_openvino_cannot_compile_is_an_unusable_model() -> None:
    class Unknown(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(image)

    with pytest.raises(ModelUnusable, match="OpenVINO cannot compile the network: ") as caught:
        OpenVINONetwork(Unknown())(torch.zeros(1, 1, 8, 8))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy == "--engine torch"


def test_nothing_is_reported_to_the_makers_of_openvino(compact) -> None:
    OpenVINONetwork(compact)(torch.zeros(1, 1, 32, 32))
    assert "openvino.tools.ovc" in sys.modules  # which would report that it is imported
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]


SIGNALED = """
import gc, os, signal, torch
from medtranslate.networks import Compact
from medtranslate.networks.compiled import OpenVINONetwork
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append("handled"))
first, second = (OpenVINONetwork(Compact(width=16, blocks=1)) for _ in range(2))
first(torch.zeros(1, 1, 64, 64)), second(torch.zeros(1, 1, 64, 64))
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGCHLD)
print(seen)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_signals_are_handled_when_compiled_networks_are_gone() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "['handled']\n"), done.stderr
