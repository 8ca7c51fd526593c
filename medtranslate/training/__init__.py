"""Training on unpaired scans: from two folders to a bundle.

The way of a scan: ``gather`` finds it, ``prepare`` takes it through its recipe into 8-bit
``slices``, ``augment`` changes these on the device, ``objective`` is the step with the paper's
equations, ``trainer`` MONAI's trainer around it. ``session`` watches over a stretch of training
(``watch``, ``pictures``, ``validate``, ``checkpoints``), and ``export`` makes the bundle.
"""

from medtranslate.training.export import export
from medtranslate.training.layout import RunFolder
from medtranslate.training.session import Cadence, Outcome
from medtranslate.training.settings import Settings
from medtranslate.training.trainer import CycleGANTrainer
from medtranslate.training.training import Training

__all__ = ["Cadence", "CycleGANTrainer", "Outcome", "RunFolder", "Settings", "Training", "export"]
