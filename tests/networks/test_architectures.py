from __future__ import annotations

import pytest
import torch
from torch import nn

from medtranslate.networks.architectures import InstanceNorm, ResidualBlock, standardized


@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_kernels_are_instance_normalization(channels, layout):
    features = (torch.randn(3, channels, 12, 10) * 7 + 3).to(memory_format=layout)
    norm, reference = InstanceNorm(channels), nn.InstanceNorm2d(channels)
    expected = reference(features)
    torch.testing.assert_close(norm(features), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(norm(features), expected, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(norm(features), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("numbers", "off"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_written_out_it_is_instance_normalization(layout, numbers, off):
    features = (torch.randn(3, 5, 12, 10) * 7 + 3).to(numbers).to(memory_format=layout)
    written_out = standardized(features)
    expected = nn.InstanceNorm2d(5)(features.double())
    torch.testing.assert_close(written_out.double(), expected, atol=off, rtol=off)
    assert written_out.dtype == numbers
    assert written_out.is_contiguous(memory_format=layout)


def test_a_compiler_is_shown_it_written_out():
    features = torch.randn(2, 4, 8, 8, requires_grad=True)
    norm, shown = InstanceNorm(4), []

    def look(graph, inputs):
        shown.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    compiled = torch.compile(norm, backend=look)
    torch.testing.assert_close(compiled(features), norm(features))
    assert torch.var_mean in shown
    assert torch.nn.functional.instance_norm not in shown


def test_it_has_no_weights():
    assert not InstanceNorm(4).state_dict()


def test_its_gradient():
    features = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(InstanceNorm(2), features)
    assert torch.autograd.gradcheck(standardized, features)


def test_a_residual_block_adds_to_its_input():
    block = ResidualBlock(4)
    for weights in block.parameters():
        nn.init.zeros_(weights)
    features = torch.randn(1, 4, 8, 8)
    assert torch.equal(block(features), features)


def test_borders_are_mirrored():
    """A 2D image that a mirror does not change has borders like any other place."""
    torch.manual_seed(0)
    block = ResidualBlock(3)
    torch.testing.assert_close(
        block(torch.ones(1, 3, 9, 9)), torch.ones(1, 3, 9, 9), atol=1e-3, rtol=0
    )
