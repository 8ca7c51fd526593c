"""Training on unpaired scans: from two folders to a checkpoint.

A scan is found by `imaging.scans`, taken through its recipe by `preparation` into 8-bit `prepared`
slices, drawn into `batches`, changed on the device by `augmentation` and given to the step in
`trainer`, whose losses (`objective`) are the paper's equations. `session` surrounds the trainer
with its `handlers`, `validation` and `checkpoints`; `run` is the entry point.
`medtranslate.packaging` makes the bundle.
"""

from medtranslate.training.run import Training
from medtranslate.training.run_folder import RunFolder
from medtranslate.training.session import Outcome
from medtranslate.training.settings import Cadence, Settings, load_config
from medtranslate.training.trainer import CycleGANTrainer

__all__ = [
    "Cadence",
    "CycleGANTrainer",
    "Outcome",
    "RunFolder",
    "Settings",
    "Training",
    "load_config",
]
