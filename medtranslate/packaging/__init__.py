"""Bundles made, verified and exported: of runs, foreign weights, ONNX, the Model Zoo."""

from medtranslate.packaging.exchange import Difference, export_network
from medtranslate.packaging.export import RunPackager, export
from medtranslate.packaging.foreign import import_cyclegan

__all__ = ["Difference", "RunPackager", "export", "export_network", "import_cyclegan"]
