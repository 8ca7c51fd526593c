"""Initial weights."""

from __future__ import annotations

from torch import nn


def draw_weights(network: nn.Module, std: float = 0.02) -> nn.Module:
    """Draw every convolution's weights from N(0, std), biases zero (Zhu et al. 2017, section 7.1).

    Returns the same network. The draw follows torch's current random state.

    Examples
    --------
    >>> network = draw_weights(nn.Conv2d(1, 8, 3))
    >>> bool((network.bias == 0).all())
    True
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
