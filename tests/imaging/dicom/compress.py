"""Compressed copies of made files, through GDCM, which medtranslate depends on anyway."""

from __future__ import annotations

from pathlib import Path

import gdcm

SYNTAXES = {
    "rle": "RLELossless",
    "jpeg-lossless": "JPEGLosslessProcess14_1",
    "jpeg-ls": "JPEGLSLossless",
    "jpeg2000": "JPEG2000Lossless",
}
LOSSY = {"jpeg-ls-near": "JPEGLSNearLossless", "jpeg2000-lossy": "JPEG2000"}


def compress(path: Path, syntax: str) -> None:
    """Rewrite a file in another transfer syntax."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    name = (SYNTAXES | LOSSY)[syntax]
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change(), syntax
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
