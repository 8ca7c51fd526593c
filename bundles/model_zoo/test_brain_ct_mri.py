"""Unit test of the bundle brain_ct_mri, for ``ci/unit_tests`` of MONAI's Model Zoo.

Run it from the Zoo's root, where ``models/brain_ct_mri`` is:
``python ci/unit_tests/test_brain_ct_mri.py``.
"""

import os
import shutil
import sys
import tempfile
import unittest

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow

BUNDLE = os.environ.get("BRAIN_CT_MRI", os.path.join("models", "brain_ct_mri"))


def run(kind, config, **override):
    """Run one workflow of the bundle, its properties checked first."""
    sys.path = [BUNDLE, *sys.path]
    workflow = ConfigWorkflow(
        workflow_type=kind,
        config_file=os.path.join(BUNDLE, "configs", config),
        logging_file=os.path.join(BUNDLE, "configs", "logging.conf"),
        meta_file=os.path.join(BUNDLE, "configs", "metadata.json"),
        bundle_root=BUNDLE,
        device="$torch.device('cpu')",
        **override,
    )
    workflow.initialize()
    lacking = workflow.check_properties()
    if lacking:
        raise ValueError(f"check properties for workflow failed: {lacking}")
    workflow.run()
    workflow.finalize()


def write_head(path, seed):
    """Write a head-like CT: skull, brain, fluid and air in HU, 3 slices of 5 mm."""
    x, y = np.meshgrid(np.arange(192) - 95.5, np.arange(192) - 95.5, indexing="ij")
    radius = np.hypot(x / 66, y / 84)
    slice_ = np.full((192, 192), -1000.0)
    slice_[radius < 1.0] = 40  # scalp
    slice_[radius < 0.95] = 900  # bone
    slice_[radius < 0.87] = 32  # brain
    slice_[np.hypot((np.abs(x) - 10) / 8, y / 26) < 1] = 6  # ventricles
    noise = np.random.default_rng(seed).normal(0, 4, (192, 192, 3))
    volume = np.where(radius[..., None] < 0.87, noise, 0) + slice_[..., None]
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    nib.save(nib.Nifti1Image(volume.astype(np.int16), affine), path)


class TestBrainCTMRI(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        for seed, domain in enumerate(("trainA", "trainB")):
            os.makedirs(os.path.join(self.folder, domain))
            write_head(os.path.join(self.folder, domain, "scan.nii.gz"), seed)
        self.output = os.path.join(self.folder, "output")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def test_infer(self):
        source = os.path.join(self.folder, "trainA", "scan.nii.gz")
        run("infer", "inference.yaml", input=source, source="CT", to="mri", output_dir=self.output)
        (name,) = [each for each in os.listdir(self.output) if each.endswith(".nii.gz")]
        before, after = nib.load(source), nib.load(os.path.join(self.output, name))
        self.assertEqual(after.shape, before.shape)
        np.testing.assert_array_equal(after.affine, before.affine)

    def test_train(self):
        run(
            "train",
            "train.yaml",
            dataset_dir=self.folder,
            output_dir=self.output,
            epochs=1,
            **{
                "settings::network_arguments": {"width": 16, "blocks": 1},
                "settings::discriminator_width": 8,
                "settings::steps_per_epoch": 1,
                "settings::batch_size": 1,
                "settings::precision": "float32",
                "settings::compile": False,
                "training::trusted": True,
                "training::cache": os.path.join(self.folder, "cache"),
            },
        )
        self.assertTrue(os.path.isdir(os.path.join(self.output, "bundle")))


if __name__ == "__main__":
    unittest.main()
