"""A conversion against what a user would otherwise pick, with the same network, in one run.

- volume: ``medtranslate convert`` against a plain MONAI pipeline (``LoadImaged``, transforms,
  ``SliceInferer``, ``Invertd``, ``SaveImaged``) on a synthetic 512x512x160 CT, both with the
  weights of one bundle;
- 2D images: the same command on a folder of 256x256 PNGs against ``test.py`` of the reference
  CycleGAN (``AshknMrd/CycleGAN-CT-to-MRI``, folder ``pytorch-CycleGAN``), unchanged, from a
  checkout that is given by path. Both with ResNet-9 in float32 and drawn weights, batch 1 as
  ``test.py`` has it. It needs ``pip install dominate`` and ``pip install --no-deps torchvision``;
  wandb, which it imports and does not use for this, is replaced by an empty module. Without a
  checkout this part is left out.

Each run has a process of its own; its imports are not counted. Runs alternate; the least and the
median of each figure are printed, then what the result keeps of the source's geometry, measured on
the files. Run it on an otherwise idle machine::

    python benchmarks/peers.py CHECKOUT/pytorch-CycleGAN --repeats 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from conversion import CONVERT, Cost, cost, machine, make_bundle, make_scan
from growth import images
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import (
    Compose,
    Invertd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)
from PIL import Image

from medtranslate import Bundle

IMPORTS = f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport peers"
MONAI = "peers.plain_monai(*map(peers.Path, sys.argv[1:]))"
WEIGHTS = (
    "import os\nos.chdir(sys.argv[1])\nsys.path.insert(0, sys.argv[1])\n"
    "from models import networks\n"
    "net = networks.define_G(1, 1, 64, 'resnet_9blocks', 'instance', False, 'normal', 0.02)\n"
    "torch.save(net.state_dict(), sys.argv[2])"
)
OPERATORS = (
    "operators = torch.library.Library('torchvision', 'DEF')\n"
    "for name in ('nms', 'qnms'):\n"
    "    operators.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
)
"""Declares what a torchvision that was built for another torch does not find when imported."""
TEST = (
    f"{OPERATORS}import os, runpy, types\nsys.modules['wandb'] = types.ModuleType('wandb')\n"
    "checkout = sys.argv[1]\nos.chdir(checkout)\nsys.path.insert(0, checkout)\n"
    "sys.argv = ['test.py', *sys.argv[2:]]\nrunpy.run_path('test.py', run_name='__main__')"
)
Runs = Mapping[str, tuple[str, list[str | Path]]]


def main() -> None:
    """Print two tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("checkout", type=Path, nargs="?", help="the folder that holds test.py")
    options.add_argument("--slices", type=int, default=160)
    options.add_argument("--images", type=int, default=20)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--network", default="Compact", choices=["Compact", "ResNet9"])
    chosen = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    print(f"{machine()}, torch {torch.__version__}, {chosen.threads} threads, float32")
    with tempfile.TemporaryDirectory() as name:
        compare_volumes(Path(name), chosen.network, chosen.slices, chosen.repeats)
    if chosen.checkout is None:
        print("2D images: not measured, no checkout of the reference is given")
        return
    with tempfile.TemporaryDirectory() as name:
        compare_images(Path(name), chosen.checkout.resolve(), chosen.images, chosen.repeats)


def compare_volumes(folder: Path, network: str, count: int, repeats: int) -> None:
    """Convert one volume by our command and by MONAI's own components."""
    bundle, scan = make_bundle(folder, network), make_scan(folder, (512, 512, count))
    ours, theirs = folder / "ours.nii.gz", folder / "scan_monai.nii.gz"
    command = [scan, "-o", ours, "--bundle", bundle, *_always("--from", "ct")]
    plain = [*command, "--no-cycle", "--no-preview"]
    runs: Runs = {
        "medtranslate, no cycle error": (CONVERT, plain),
        "medtranslate, all checks": (CONVERT, command),
        "MONAI pipeline": (MONAI, [scan, bundle, theirs.parent]),
    }
    print(f"{network}, one volume of 512x512x{count}, NIfTI to NIfTI:")
    report(runs, repeats)
    for name, path in (("medtranslate", ours), ("MONAI pipeline", theirs)):
        print(f"  {name}: {kept(scan, path)}")


def plain_monai(scan: Path, bundle: Path, folder: Path) -> None:
    """Convert a CT as a reader of MONAI's tutorials would; nothing is checked."""
    network = Bundle.load(bundle).generator("mri").network.eval()
    prepare = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="LPS", labels=None),
            Spacingd("image", pixdim=(0.9, 0.9, -1.0)),
            ResizeWithPadOrCropd("image", (256, 256, -1)),
            ScaleIntensityRanged("image", -20, 100, -1, 1, clip=True),
        ]
    )
    finish = Compose(
        [
            Invertd("pred", prepare, orig_keys="image", nearest_interp=False),
            ScaleIntensityRanged("pred", -1, 1, 0, 4095, clip=True),
            SaveImaged(
                "pred",
                output_dir=folder,
                output_postfix="monai",
                output_dtype=np.int16,
                resample=False,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    data = prepare({"image": str(scan)})
    infer = SliceInferer(roi_size=(256, 256), sw_batch_size=4, spatial_dim=2)
    with torch.inference_mode():
        made = infer(data["image"][None], network)[0]
    data["pred"] = MetaTensor(made.as_tensor().clone()).copy_meta_from(data["image"])
    finish(data)


def compare_images(folder: Path, checkout: Path, count: int, repeats: int) -> None:
    """Convert a folder of 2D images by our command and by the reference's ``test.py``."""
    bundle = make_bundle(folder, "ResNet9")
    source, *_ = images(folder, count)
    weights = folder / "checkpoints" / "peer"
    weights.mkdir(parents=True)
    cost(WEIGHTS, checkout, weights / "latest_net_G.pth")
    names = ["--name", "peer", "--model", "test", "--no_dropout", "--netG", "resnet_9blocks"]
    places = ["--dataroot", source, "--checkpoints_dir", weights.parent, "--results_dir", folder]
    shape = ["--input_nc", "1", "--output_nc", "1", "--num_test", str(count)]
    ours = folder / "out"
    command = [source, "-o", ours, "--bundle", bundle, *_always("--from", "ct")]
    always = [*command, "--batch-size", "1"]
    runs: Runs = {
        "medtranslate, no cycle error": (CONVERT, [*always, "--no-cycle", "--no-preview"]),
        "medtranslate, all checks": (CONVERT, always),
        "reference test.py": (TEST, [checkout, *places, *names, *shape]),
    }
    print(f"ResNet9, a folder of {count} images of 256x256, batch 1:")
    report(runs, repeats)
    theirs = next((folder / "peer").rglob("*_fake.png"))
    for name, path in (("medtranslate", next(ours.glob("*.png"))), ("reference", theirs)):
        with Image.open(path) as image:
            print(f"  {name}: {image.size[0]}x{image.size[1]} {image.mode}, {image.text or 'bare'}")


def report(runs: Runs, repeats: int) -> None:
    """Print the least and the median of what each run costs, and ratios to the first."""
    taken: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (work, arguments) in runs.items():
            taken[name].append(cost(work, *arguments, before=IMPORTS))
    base = min(one.processor for one in next(iter(taken.values())))
    for name, costs in taken.items():
        processor, wall = (
            [getattr(one, field) for one in costs] for field in ("processor", "wall")
        )
        print(
            f"  {name:30} processor {min(processor):7.2f} ({statistics.median(processor):7.2f}) s, "
            f"wall {min(wall):7.2f} ({statistics.median(wall):7.2f}) s, "
            f"{max(one.peak for one in costs):6.0f} MB, ratio {min(processor) / base:.2f}"
        )


def kept(scan: Path, result: Path) -> str:
    """Say what a result keeps of its source's grid."""
    before, after = nib.load(scan), nib.load(result)
    if before.shape != after.shape:
        return f"shape {after.shape}, not {before.shape}"
    apart = float(np.abs(before.affine - after.affine).max())
    label = after.header["descrip"].item().decode() or "no label"
    return f"{after.get_data_dtype()}, affine off by {apart:.3g}, {label}"


def _always(*more: str) -> list[str]:
    fixed = ["--to", "mri", "--force", "--quiet", "--overwrite", "--device", "cpu"]
    return [*fixed, "--precision", "float32", *more]


if __name__ == "__main__":
    main()
