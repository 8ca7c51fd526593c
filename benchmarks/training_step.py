"""Training steps against the reference implementation, as ratios within one run on one machine.

The reference is ``junyanz/pytorch-CycleGAN-and-pix2pix`` (a copy of 2025 stands in
``AshknMrd/CycleGAN-CT-to-MRI``, folder ``pytorch-CycleGAN``); its ``models`` package is imported as
it is, from a checkout that is given by path. Both sides: the same generator, the 70x70 PatchGAN,
256x256, one channel, least squares, lambda 10, identity 0.5, pool 50, the same batch and threads.

What is measured:

- step: pairs per second of whole steps, in rounds that alternate with the reference's, median of
  rounds; the reference without its data loader, ours with data, augmentation and moving average;
- data: our step with slices from a file and augmentation against our step on a batch that lies
  ready (``bf16-ready``);
- average: what the moving average of the generators, which the reference lacks, costs
  (``float32-unaveraged`` goes without);
- memory: peak resident memory of three steps in a process of its own, above one that has imported
  torch and built nothing (on a GPU: peak of allocated memory).

Run it on an otherwise idle machine::

    python benchmarks/training_step.py CHECKOUT/pytorch-CycleGAN
    python benchmarks/training_step.py CHECKOUT/pytorch-CycleGAN --device cuda --batch 1 --compile

With ``--compile`` on a GPU, ``bf16-captured`` is the compiled step as one CUDA graph.

With ``--levers`` our step alone is measured, once as it is and once with each setting that may
speed it up, every line as soon as it is known, for a GPU that is lent for minutes::

    python benchmarks/training_step.py --levers --device cuda --batch 8 --seconds 75
    python benchmarks/training_step.py --levers --tiny    # the same on a CPU within seconds
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medtranslate.device import keep_freed_memory
from medtranslate.training import CycleGANTrainer, Settings
from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.models import Models
from medtranslate.training.pairs import Pairs
from medtranslate.training.prepared import PreparedSet, ScanRecord
from medtranslate.training.trainer import CapturedStep

GENERATORS = {"resnet9": "resnet_9blocks", "unet256": "unet_256"}
PLAIN = {"flip": False, "scaling": 0.0, "shift_pixels": 0.0}
CAPTURED = {"cuda_graph": True, "pool_size": 1}  # a step is captured when the pool is full
TINY = {
    "network_arguments": {"width": 16, "blocks": 1},
    "discriminator_width": 8,
    "discriminator_layers": 2,
    "downsampling": 4,
}
SUPERVISED = {"adversarial_weight": 0.0, "cycle_weight": 0.0}
BEST = {"compile": True, **CAPTURED}
LEVERS: dict[str, dict[str, dict[str, object]]] = {
    "cpu": {
        "direct convolutions": {"winograd": False},
        "channels-last": {"memory_format": "channels-last"},
        "no moving average": {"ema_decay": 0.0},
        "no image pool": {"pool_size": 0},
        "half the discriminator": {"discriminator_width": 32},
        "supervised": SUPERVISED,
        "supervised, direct": {**SUPERVISED, "winograd": False},
    },
    "cuda": {
        "captured": CAPTURED,
        "float32": {"precision": "float32"},
        "contiguous": {"memory_format": "contiguous"},
        "no moving average": {"ema_decay": 0.0},
        "no image pool": {"pool_size": 0},
        "half the discriminator": {"discriminator_width": 32},
        "supervised": SUPERVISED,
        "captured, batch x4": {**CAPTURED, "times": 4},
        "compiled, captured": BEST,
        "compiled, captured, batch x2": {**BEST, "times": 2},
        "compiled, captured, batch x4": {**BEST, "times": 4},
        "supervised, compiled, captured, batch x4": {**BEST, **SUPERVISED, "times": 4},
        "compiled": {"compile": True},
    },
}
"""What is changed, by what it is called: settings, and how many times the batch."""

Step = Callable[[], None]


def main() -> None:
    """Print the table, and with --json the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "reference", type=Path, nargs="?", help="the checkout's folder that holds models/"
    )
    options.add_argument("--levers", action="store_true", help="settings apart, no reference")
    options.add_argument("--tiny", action="store_true", help="--levers on a tiny network")
    options.add_argument("--seconds", type=float, default=600, help="begin no lever after these")
    options.add_argument("--networks", nargs="+", default=["resnet9", "unet256", "compact"])
    options.add_argument("--device", default="cpu")
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=4, help="steps a round")
    options.add_argument(
        "--compile", action="store_true", help="ours also compiled; on a GPU captured too"
    )
    options.add_argument("--no-memory", action="store_true", help="only speed")
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(peak_memory(given, given.memory_of))
        return
    if given.device == "cpu":
        keep_freed_memory()  # as a run does
    if given.levers:
        show_levers(given)
        return
    if given.reference is None:
        options.error("the reference's folder is missing (or --levers)")
    rows = [row for network in given.networks for row in measure(given, network)]
    report = {"machine": machine(given), "rows": rows}
    show(report)
    if given.json:
        given.json.write_text(json.dumps(report, indent=2))


def measure(given: Namespace, network: str) -> Iterator[dict[str, object]]:
    """Measure one network in every variant, each in rounds that alternate with the reference's."""
    for variant in variants_of(given):
        ours = make_step(given, variant, network)
        reference = reference_step(given, network) if network in GENERATORS else None
        median, base = alternate(given, ours, reference)
        row: dict[str, object] = {
            "network": network,
            "variant": variant,
            "pairs_per_second": given.batch / median,
            "against_reference": None if base is None else base / median,
        }
        if not given.no_memory:
            row["memory_mb"] = memory_in_own_process(given, f"{variant}:{network}")
        yield row
    if network in GENERATORS and not given.no_memory:
        memory = memory_in_own_process(given, f"reference:{network}")
        yield {"network": network, "variant": "reference", "memory_mb": memory}


def alternate(given: Namespace, ours: Step, reference: Step | None) -> tuple[float, float | None]:
    """Return the median seconds of our step and of the reference's."""
    steps = [ours] if reference is None else [ours, reference]
    seconds: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()
        step()
    for _ in range(given.rounds):
        for step, times in zip(steps, seconds, strict=True):
            times.append(timed(step, given.steps, given.device) / given.steps)
    medians = [statistics.median(times) for times in seconds]
    return medians[0], medians[1] if reference else None


def variants_of(given: Namespace) -> list[str]:
    compiled = ["float32-compiled", "bf16-compiled"] if given.compile else []
    if given.compile and given.device.startswith("cuda"):
        compiled.append("bf16-captured")
    return ["float32", "float32-unaveraged", "bf16", "bf16-ready", *compiled]


def make_step(given: Namespace, variant: str, network: str) -> Step:
    if variant == "reference":
        return reference_step(given, network)
    return our_step(given, network, variant)


def reference_step(given: Namespace, network: str) -> Step:
    """Build the reference's model and give its training step on a fixed batch."""
    if str(given.reference.resolve()) not in sys.path:
        sys.path.insert(0, str(given.reference.resolve()))
    from models.cycle_gan_model import CycleGANModel

    model = CycleGANModel(
        Namespace(
            isTrain=True, checkpoints_dir=".", name="benchmark", preprocess="none",
            device=torch.device(given.device), gpu_ids=[], direction="AtoB",
            input_nc=1, output_nc=1, ngf=64, ndf=64, netG=GENERATORS[network], netD="basic",
            n_layers_D=3, norm="instance", no_dropout=True, init_type="normal", init_gain=0.02,
            lambda_A=10.0, lambda_B=10.0, lambda_identity=0.5, pool_size=50, gan_mode="lsgan",
            lr=2e-4, beta1=0.5, lr_policy="linear", epoch_count=1, n_epochs=100,
            n_epochs_decay=100, continue_train=False, load_iter=0, epoch="latest", verbose=False,
        )
    )  # fmt: skip
    model.setup(model.opt)
    shape = (given.batch, 1, 256, 256)
    batch = {"A": torch.rand(shape) * 2 - 1, "B": torch.rand(shape) * 2 - 1, "A_paths": []}

    def step() -> None:
        model.set_input(batch)
        model.optimize_parameters()

    return step


def our_step(given: Namespace, network: str, variant: str) -> Step:
    """Build our trainer and give its training step: data, augmentation and average included."""
    precision, _, how = variant.partition("-")
    changes = {"ready": PLAIN, "unaveraged": {"ema_decay": 0.0}, "captured": CAPTURED}.get(how, {})
    settings = Settings(network=network, batch_size=given.batch, **changes)
    device = torch.device(given.device)
    models = Models(settings, device)
    if how in ("compiled", "captured"):
        models.compile()
    batches = UnpairedBatches(from_file("CT"), from_file("MR"), given.batch, 0, device)
    trainer = CycleGANTrainer(models, batches, precision)
    stream = iter(batches)
    ready = next(stream)
    trainer.state.epoch = 1

    def step() -> None:
        trainer.state.iteration += 1
        trainer._iteration(trainer, ready if how == "ready" else next(stream))

    if how == "captured":
        for _ in range(CapturedStep.WARM_UP):
            step()
    return step


def show_levers(given: Namespace) -> None:
    """Print what each lever does to a step, as long as there is time."""
    print(json.dumps(machine(given)), flush=True)
    print(f"{'':42}{'ms/step':>9}{'pairs/s':>9}{'ratio':>7}{'loss':>9}{'ops':>7}", flush=True)
    end, plain = time.monotonic() + given.seconds, None
    for name, changes in {"plain": {}, **LEVERS[torch.device(given.device).type]}.items():
        if time.monotonic() > end:
            print(f"{name:42}    left out: no time", flush=True)
            continue
        try:
            figures = lever(given, dict(changes))
        except torch.OutOfMemoryError:
            print(f"{name:42}    out of memory", flush=True)
            continue
        plain = plain or figures
        pairs, first = figures["pairs_per_second"], figures["loss"]
        comparable = changes.get("times", 1) == 1 and "cycle_weight" not in changes
        off = f"{abs(first / plain['loss'] - 1):9.1e}" if comparable else f"{'':9}"
        ratio = pairs / plain["pairs_per_second"]
        line = f"{1e3 * figures['seconds']:9.1f}{pairs:9.2f}{ratio:7.2f}{off}{figures['ops']:7}"
        print(f"{name:42}{line}", flush=True)


def lever(given: Namespace, changes: dict[str, object]) -> dict[str, float]:
    """Measure our step with changed settings.

    Gives ``seconds`` a step (the least of the rounds), ``pairs_per_second``, the first step's
    ``loss`` and ``ops``: how many operations of torch the second step is, 0 if it is compiled.
    """
    device, batch = torch.device(given.device), given.batch * int(changes.pop("times", 1))
    precision = str(changes.pop("precision", "bf16" if device.type == "cuda" else "float32"))
    base = TINY if given.tiny else {"network_arguments": {"blocks": 9}}
    settings = Settings(
        network="compact", batch_size=batch, rendered_batch_size=batch, **{**base, **changes}
    )
    models = Models(settings, device)
    if settings.compile:
        models.compile()
    batches = UnpairedBatches(from_file("CT"), from_file("MR"), batch, 0, device)
    pairs = None if settings.unpaired else Ready(batch, device)
    trainer = CycleGANTrainer(models, batches, precision, rendered=pairs)
    stream, trainer.state.epoch = iter(batches), 1

    def step() -> dict[str, torch.Tensor]:
        trainer.state.iteration += 1
        return trainer._iteration(trainer, next(stream))

    loss = float(sum(step().values()))
    operations = Operations()
    with nullcontext() if settings.compile else operations:
        step()
    for _ in range(CapturedStep.WARM_UP):
        step()
    rounds = [timed(step, given.steps, given.device) / given.steps for _ in range(given.rounds)]
    return {
        "seconds": min(rounds),
        "pairs_per_second": batch / min(rounds),
        "loss": loss,
        "ops": operations.count,
    }


class Ready:
    """Pairs that lie ready, the same in every step."""

    def __init__(self, count: int, device: torch.device) -> None:
        draws = torch.Generator().manual_seed(0)
        ct, mri = torch.rand(2, count, 1, 256, 256, generator=draws).to(device) * 2 - 1
        head = torch.ones_like(ct, dtype=torch.bool)
        self._pairs = Pairs(ct, mri, head, torch.zeros(count, dtype=torch.int64, device=device))

    def pairs(self, first: int, count: int) -> Pairs:
        """Give them, whichever are asked for."""
        return self._pairs

    def digest(self) -> str:
        """Identify nothing."""
        return ""


class Operations(TorchDispatchMode):
    """Counts the operations that torch is asked for, but no views: what a GPU launches."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):  # type: ignore[no-untyped-def]
        self.count += not function.is_view
        return function(*arguments, **(named or {}))


def from_file(modality: str) -> PreparedSet:
    """Give 64 slices with a round head in each, mapped from a file as in a run."""
    rows, columns = np.mgrid[:256, :256] - 128
    head = np.hypot(rows, columns) < 90
    gray = np.random.default_rng(0).integers(1, 256, (64, 256, 256), dtype=np.uint8) * head
    scans = torch.arange(64, dtype=torch.int32)
    records = tuple(ScanRecord(str(n), str(n), 1, 0) for n in range(64))
    made = PreparedSet(modality, torch.from_numpy(gray.astype(np.uint8)), scans, records)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slices.safetensors"
        made.save(path)
        return PreparedSet.load(path)


def timed(step: Callable[[], object], steps: int, device: str) -> float:
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return time.perf_counter() - start


def memory_in_own_process(given: Namespace, what: str) -> float:
    command = [
        sys.executable, __file__, str(given.reference), "--device", given.device,
        "--batch", str(given.batch), "--threads", str(given.threads), "--memory-of", what,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def peak_memory(given: Namespace, what: str) -> float:
    """Return the peak memory in MB of three steps of one variant and network."""
    variant, _, network = what.partition(":")
    before = highest_resident()
    step = make_step(given, variant, network)
    for _ in range(3):
        step()
    if given.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    return highest_resident() - before


def highest_resident() -> float:
    """Return this process's peak resident memory in MB; getrusage would count the parent's."""
    status = Path("/proc/self/status").read_text()
    return float(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e3  # type: ignore[index]


def machine(given: Namespace) -> dict[str, object]:
    on_gpu = given.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "bf16_instructions": torch.cpu._is_avx512_bf16_supported(),
        "threads": given.threads,
        "batch": given.batch,
        "versions": {name: version(name) for name in ("medtranslate", "torch", "monai")},
        "reference": given.reference and given.reference.name,
    }


def show(report: dict[str, object]) -> None:
    print(json.dumps(report["machine"]))
    columns = {"pairs_per_second": ".3f", "against_reference": ".2f", "memory_mb": ".0f"}
    print(f"{'network':10}{'variant':18}" + "".join(f"{name:>19}" for name in columns))
    for row in report["rows"]:  # type: ignore[attr-defined]
        cells = (
            "" if row.get(name) is None else format(row[name], kind)
            for name, kind in columns.items()
        )
        print(f"{row['network']:10}{row['variant']:18}" + "".join(f"{cell:>19}" for cell in cells))


if __name__ == "__main__":
    main()
