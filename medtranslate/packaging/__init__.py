"""Make, verify and export bundles: from runs and foreign weights, for ONNX and the Model Zoo."""

from medtranslate.packaging.cyclegan_import import import_cyclegan
from medtranslate.packaging.export import RunPackager, export
from medtranslate.packaging.formats import Difference, export_network

__all__ = ["Difference", "RunPackager", "export", "export_network", "import_cyclegan"]
