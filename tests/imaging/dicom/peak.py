"""Read and write back a series in a process of its own; print times and peak memory as JSON.

``python peak.py SERIES OUT``. The idle level is that of the interpreter with everything imported.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from medtranslate.cli.lean import lean_imports

lean_imports()  # seconds less of importing MONAI

import torch  # noqa: E402
from monai.data import MetaTensor  # noqa: E402

from medtranslate.imaging.dicom import DicomReader, write_series  # noqa: E402


def peak() -> float:
    """Give the largest resident size of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    idle = peak()
    begun = time.monotonic()
    reader = DicomReader()
    scan = reader.read(source)
    reader.get_data(scan)
    image = scan.image()
    del scan
    read = time.monotonic() - begun
    after_read = peak()
    voxels = torch.as_tensor(image).as_subclass(torch.Tensor)
    voxels.clamp_(-20, 100).add_(20)
    synthesis = {
        "modality": "MR",
        "model": "m",
        "version": "1",
        "weights_sha256": "ab" * 32,
        "label": "SYNTHETIC MR from CT, m 1, NOT FOR DIAGNOSIS",
        "dtype": "int16",
        "background": 0.0,
        "window": [],
    }
    begun = time.monotonic()
    write_series(MetaTensor(voxels, meta={**image.meta, "synthesis": synthesis}), out)
    print(
        json.dumps(
            {
                "read_s": read,
                "write_s": time.monotonic() - begun,
                "volume": voxels.numel() * 4,
                "read_peak": after_read - idle,
                "peak": peak() - idle,
            }
        )
    )


if __name__ == "__main__":
    main()
