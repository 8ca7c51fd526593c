"""Generators ResNet-9, U-Net-256 and compact, and the PatchGAN discriminator."""

from medtranslate.networks.compact import Compact
from medtranslate.networks.discriminator import PatchGAN
from medtranslate.networks.gray_through_rgb import GrayThroughRGB
from medtranslate.networks.initial import draw_weights
from medtranslate.networks.resnet import ResNet9
from medtranslate.networks.unet import UNet256

__all__ = ["Compact", "GrayThroughRGB", "PatchGAN", "ResNet9", "UNet256", "draw_weights"]
