"""Checkpoints as pytorch-CycleGAN-and-pix2pix names them, of narrow networks of ours."""

from __future__ import annotations

import torch
from torch import nn

from medtranslate.networks import ResNet9, UNet256, draw_weights
from medtranslate.packaging.cyclegan_import import resnet_names, unet_names

State = dict[str, torch.Tensor]


def resnet(channels: int = 1, blocks: int = 2) -> ResNet9:
    torch.manual_seed(channels)
    network = ResNet9(channels, channels, width=8, blocks=blocks)
    return draw_weights(network, 0.3).eval().requires_grad_(False)


def unet(channels: int = 1) -> UNet256:
    torch.manual_seed(channels)
    return draw_weights(UNet256(channels, channels, width=4), 0.3).eval().requires_grad_(False)


def foreign(network: nn.Module, *, second: int = 5) -> State:
    """The network's weights under the other program's names."""
    if isinstance(network, ResNet9):
        names = resnet_names(len(network.body), second=second)
    else:
        names = unet_names()
    state = {}
    for ours, value in network.state_dict().items():
        module, end = ours.rsplit(".", 1)
        state[f"{names[module]}.{end}"] = value.clone()
    return state
