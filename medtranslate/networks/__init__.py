"""Generators (ResNet-9, U-Net-256, compact, any of MONAI's allow-list) and the PatchGAN."""

from medtranslate.networks.architectures import (
    Compact,
    ResNet9,
    UNet256,
    draw_weights,
    fix_contrast,
)
from medtranslate.networks.discriminator import PatchGAN
from medtranslate.networks.generators import (
    GENERATOR_NAMES,
    BoundedOutput,
    GrayThroughRGB,
    InvalidSpec,
    build_generator,
    complete_spec,
    contrasts_of,
    generator_name,
    generator_spec,
)

__all__ = [
    "GENERATOR_NAMES",
    "BoundedOutput",
    "Compact",
    "GrayThroughRGB",
    "InvalidSpec",
    "PatchGAN",
    "ResNet9",
    "UNet256",
    "build_generator",
    "complete_spec",
    "contrasts_of",
    "draw_weights",
    "fix_contrast",
    "generator_name",
    "generator_spec",
]
