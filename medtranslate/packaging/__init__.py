"""Bundles made, checked and exported: foreign weights, ONNX and TorchScript, the Model Zoo."""

from medtranslate.packaging.exchange import Difference, export_network
from medtranslate.packaging.foreign import import_cyclegan

__all__ = ["Difference", "export_network", "import_cyclegan"]
