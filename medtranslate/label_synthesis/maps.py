"""Label maps read once: a folder of them, or one file that holds them for another machine."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from medtranslate.errors import InputMissing, Unreadable
from medtranslate.files import file_hash, whole_file
from medtranslate.label_synthesis.cut import LabelMap
from medtranslate.label_synthesis.tissues import TissueTable

SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
FILE_SUFFIX = ".npz"
"""Of a file of label maps, as `LabelMaps.save` writes it."""

_FORMAT = "label maps 1"
_ABOUT = "about"

Progress = Callable[[int, int], None]
"""Called with the number done and the number of all."""


@dataclass(frozen=True, eq=False)
class LabelMaps:
    """Label maps of whole heads, as a `PairRenderer` takes them.

    Parameters
    ----------
    maps : tuple of LabelMap
        At least one.
    table : TissueTable
        What their classes are.

    Examples
    --------
    >>> import tempfile
    >>> white = TissueTable.read().index("white_matter")
    >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
    >>> head = LabelMap(cube, spacing=(3.0, 3.0, 3.0), brain=(-60.0, 60.0), name="cube")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     LabelMaps((head,)).save(Path(folder, "heads.npz"))
    ...     maps = LabelMaps.read(Path(folder, "heads.npz"))
    >>> maps.names
    ('cube',)
    """

    maps: tuple[LabelMap, ...]
    table: TissueTable = field(default_factory=TissueTable.read)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        return f"LabelMaps({len(self)})"

    @property
    def names(self) -> tuple[str, ...]:
        """File names of the maps."""
        return tuple(Path(one.name).name for one in self.maps)

    @classmethod
    def read(
        cls,
        path: Path,
        table: TissueTable | None = None,
        *,
        cache: Path | None = None,
        progress: Progress = lambda done, of: None,
    ) -> LabelMaps:
        """Read a label map, a folder of them, or a file that `save` wrote.

        Parameters
        ----------
        path : path
        table : TissueTable, optional
        cache : path, optional
            Folder where maps are kept between calls, known by the content of files and table:
            reading one takes seconds.
        progress : function
            Called with the maps read and the maps in all.

        Raises
        ------
        InputMissing, Unreadable, Unsupported
            As `LabelMap.read`; a folder without label maps; a file of another table or version.
        OutputFailed
            The cache cannot be written.
        """
        table = table or TissueTable.read()
        if path.suffix == FILE_SUFFIX:
            return cls._load(path, table)
        files = label_maps(path)
        kept = None if cache is None else cache / f"labels-{_key(files, table)}{FILE_SUFFIX}"
        if kept is not None and kept.is_file():
            return cls._load(kept, table)
        maps = []
        for place, file in enumerate(files):
            maps.append(LabelMap.read(file, table))
            progress(place + 1, len(files))
        read = cls(tuple(maps), table)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            read.save(kept, overwrite=True)
        return read

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the maps as one compressed file, whole or not at all.

        Raises
        ------
        OutputExists, OutputFailed
            As `medtranslate.files.whole_file`.
        """
        about = {
            "format": _FORMAT,
            "table": table_digest(self.table),
            "maps": [
                {"name": name, "spacing": one.spacing, "brain": one.brain}
                for name, one in zip(self.names, self.maps, strict=True)
            ],
        }
        arrays = {str(place): one.classes.cpu().numpy() for place, one in enumerate(self.maps)}
        arrays[_ABOUT] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        with whole_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as opened:
            np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]

    def digest(self) -> str:
        """Identify maps and table by their content."""
        total = hashlib.sha256(table_digest(self.table).encode())
        for one in self.maps:
            total.update(f"{tuple(one.classes.shape)} {one.spacing} {one.brain}".encode())
            total.update(one.classes.cpu().numpy().tobytes())
        return total.hexdigest()

    @classmethod
    def _load(cls, path: Path, table: TissueTable) -> LabelMaps:
        if not path.is_file():
            raise InputMissing("no such file of label maps", path=path)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(arrays[_ABOUT].tobytes())
                if about["format"] != _FORMAT or about["table"] != table_digest(table):
                    raise Unreadable("label maps of another version or table", path=path)
                maps = tuple(
                    LabelMap(
                        torch.from_numpy(arrays[str(place)]),
                        tuple(each["spacing"]),
                        tuple(each["brain"]),
                        each["name"],
                    )
                    for place, each in enumerate(about["maps"])
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise Unreadable("not a file of label maps, or a damaged one", path=path) from error
        return cls(maps, table)


def label_maps(path: Path) -> list[Path]:
    """Return the label maps of a folder, in order of their names, or the one given.

    Raises
    ------
    InputMissing
        There is nothing there.
    """
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.name.lower().endswith(SUFFIXES))
        if not found:
            raise InputMissing(f"holds no label maps ({', '.join(SUFFIXES)})", path=path)
        return found
    if not path.exists():
        raise InputMissing("no such label map or folder", path=path)
    return [path]


def table_digest(table: TissueTable) -> str:
    """Identify a table by what is in it."""
    return hashlib.sha256(f"{table.tissues} {table.contrasts}".encode()).hexdigest()


def _key(files: list[Path], table: TissueTable) -> str:
    total = hashlib.sha256(f"{_FORMAT} {table_digest(table)}".encode())
    for file in files:
        total.update(f"{file.name}\0{file_hash(file)}\0".encode())
    return total.hexdigest()[:24]
