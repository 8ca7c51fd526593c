"""What was measured of a derived series, as DICOM objects that refer to it, by highdicom.

An error map is a Parametric Map (PS3.3 A.75) with a frame for each slice, at the slice's own
position; the figures are a structured report by TID 1500 (PS3.16). Both lie in the study of the
series, name its instances, and are in series of their own.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from monai.data import MetaTensor
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medtranslate.errors import Unsupported
from medtranslate.files import whole_file
from medtranslate.imaging.base import unforeseen_named
from medtranslate.imaging.dicom.attributes import RULES, keep_bytes
from medtranslate.imaging.dicom.derive.computed import SOFTWARE, UidMaker, ascii_text, basis_of
from medtranslate.imaging.dicom.derive.writer import save

_PATIENT_AND_STUDY = ("C.12.1.1.2", "C.7.1.1", "C.7.1.3", "C.7.2.1", "C.7.2.2", "C.7.2.3")
_COPIED = [
    rule.keyword for rule in RULES if rule.origin == "copied" and rule.section in _PATIENT_AND_STUDY
]

_ASKED_FOR = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""What highdicom takes from the instances even if it is empty."""

_SERIES_NUMBERS = {
    "cycle error": 10000,
    "variation": 20000,
    "figures": 30000,
    "expected error": 40000,
}
"""Added to the SeriesNumber of the derived series."""


def _code(number: int, meaning: str) -> Code:
    return Code(f"MEDTRANSLATE-{number:02d}", "99MEDTRANSLATE", meaning)


_TRANSLATION = _code(1, "Image-to-image translation")
_QUANTITIES = {
    "expected error": _code(15, "Expected error"),
    "cycle error": _code(2, "Cycle error"),
    "variation": _code(3, "Variation"),
}
_SHARES = {
    "expected error": _code(16, "Expected error as a share of the range of values"),
    "cycle error": _code(4, "Cycle error as a share of the range of values"),
    "variation": _code(5, "Variation as a share of the range of values"),
}
_PEAKS = {
    "expected error": _code(17, "Peak of the expected error"),
    "cycle error": _code(6, "Peak of the cycle error"),
    "variation": _code(7, "Peak of the variation"),
}
_ANOMALY_SCORE = _code(8, "Anomaly score of the domain check")
_OUTSIDE = _code(9, "Voxels of tissue outside the field of view")
_DOMAIN_CHECK = _code(10, "Domain check")
_VERDICTS = {
    "passed": _code(11, "passed"),
    "warned": _code(12, "warned"),
    "refused": _code(13, "refused, and converted by force"),
    "not checked": _code(14, "not checked"),
}


def write_parametric_map(
    image: MetaTensor,
    path: Path,
    *,
    series: Path,
    quantity: str,
    units: str,
    highest: float,
    uid_seed: str = "",
    overwrite: bool = False,
) -> None:
    """Write an error map as a Parametric Map, complete or not at all.

    Parameters
    ----------
    image : MetaTensor (1, X, Y, Z)
        Float32, one plane along Z for each instance of the series; ``meta["synthesis"]`` of the
        result that it measures.
    path : Path
        The file.
    series : Path
        Folder of the derived series that it measures, as `write_series` wrote it.
    quantity : str
        ``"expected error"``, ``"cycle error"`` or ``"variation"``.
    units : str
        ``"HU"``, ``"scanner units"`` or ``"arbitrary units"``.
    highest : float
        Upper end of the window to display; the lower is 0.
    uid_seed : str
        As `write_series`.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    instances, synthesis = _instances(series), image.meta["synthesis"]
    planes = image.as_tensor()[0].permute(2, 1, 0).contiguous().numpy()
    made = _Made(synthesis, uid_seed, quantity, instances[0], hashlib.sha256(planes.tobytes()))
    label = quantity.upper().replace(" ", "_")
    finfo = np.finfo(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that the source wrote in a broken way
        built = ParametricMap(
            source_images=instances,
            pixel_array=planes,
            contains_recognizable_visual_features=True,
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label=label,
                    lut_explanation=ascii_text(f"{quantity} in {units}"),
                    unit=_unit(units),
                    value_range=(float(finfo.min), float(finfo.max)),
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=_QUANTITIES[quantity],
                )
            ],
            voi_lut_transformations=[
                VOILUTTransformation(window_center=highest / 2, window_width=highest)
            ],
            content_label=label,
            content_description=f"{quantity}; below 0 where the model could not see",
            **made.keywords(),
        )
    target = synthesis["modality"]
    for keyword in ("BodyPartExamined", "Laterality"):
        if keyword in instances[0]:
            built[keyword] = instances[0][keyword]
    built.SeriesDescription = f"{quantity} of SYNTHETIC {target}, NOT FOR DIAGNOSIS"
    _write(built, instances[0], path, overwrite=overwrite)


def read_parametric_map(
    path: Path, source: Mapping[str, Any]
) -> tuple[str, str, NDArray[np.float32]]:
    """Read an error map that `write_parametric_map` wrote.

    Parameters
    ----------
    path : Path
        The file.
    source : mapping
        ``meta["source"]`` of the derived series, as read: the grid of the map.

    Returns
    -------
    (quantity, units, float32 array (X, Y, Z))
        ``"expected error"``, ``"cycle error"`` or ``"variation"``, its units, and the values.

    Raises
    ------
    Unsupported
        It is no such map, or lies on another grid.
    """
    columns, rows, count = source["shape"]
    with unforeseen_named(path):
        read = pydicom.dcmread(path)
        try:
            shape = (int(read.NumberOfFrames), int(read.Rows), int(read.Columns))
            frames = np.frombuffer(read.FloatPixelData, dtype="<f4").reshape(shape)
            positions = np.array(
                [
                    item.PlanePositionSequence[0].ImagePositionPatient
                    for item in read.PerFrameFunctionalGroupsSequence
                ],
                dtype=np.float64,
            )
            shared = read.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
            text = str(shared.LUTExplanation)
        except (AttributeError, LookupError) as error:
            raise Unsupported("is no error map of medtranslate", path=path) from error
    placed = np.c_[positions * (-1, -1, 1), np.ones(len(positions))]
    voxels = placed @ np.linalg.inv(np.asarray(source["affine"], dtype=np.float64)).T
    numbers = np.rint(voxels[:, 2]).astype(int)
    expected = np.c_[np.zeros((len(numbers), 2)), numbers]
    same = shape == (count, rows, columns) and sorted(numbers) == list(range(count))
    if not same or np.abs(voxels[:, :3] - expected).max() > 0.1:
        raise Unsupported("lies on another grid than the result", path=path)
    quantity, _, units = text.partition(" in ")
    return quantity, units, np.ascontiguousarray(frames[np.argsort(numbers)].transpose(2, 1, 0))


def write_figures(
    figures: Mapping[str, Any],
    path: Path,
    *,
    series: Path,
    synthesis: Mapping[str, Any],
    by_slice: bool,
    uid_seed: str = "",
    overwrite: bool = False,
) -> None:
    """Write the figures of the checks as a structured report by TID 1500.

    Parameters
    ----------
    figures : mapping
        ``"expected_error"``, ``"cycle_error"``, ``"variation"``, ``"domain"`` and ``"unseen"``, as
        the JSON report has them; those that are absent are left out.
    path, series, uid_seed, overwrite
        As `write_parametric_map`.
    synthesis : mapping
        ``meta["synthesis"]`` of the result.
    by_slice : bool
        Whether slices are numbered as the instances of the series are, so that their figures can
        name the instance that they were measured on.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    from highdicom import sr

    instances = _instances(series)
    written = json.dumps(figures, sort_keys=True, default=str).encode()
    made = _Made(synthesis, uid_seed, "figures", instances[0], hashlib.sha256(written))
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=made.uid("device"),
        name="medtranslate",
        manufacturer_name="medtranslate",
        model_name=ascii_text(synthesis["model"]),
        serial_number=ascii_text(synthesis["weights_sha256"]),
    )
    groups = _groups(figures, instances if by_slice else (), made)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=_TRANSLATION,
        imaging_measurements=list(groups),
    )
    keywords = made.keywords()
    model = keywords.pop("manufacturer_model_name")
    software, serial = keywords.pop("software_versions"), keywords.pop("device_serial_number")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that the source wrote in a broken way
        built = sr.EnhancedSR(
            evidence=instances, content=content[0], is_complete=True, is_final=True, **keywords
        )
    built.ManufacturerModelName, built.DeviceSerialNumber = model, serial
    built.SoftwareVersions = software
    built.SeriesDescription = f"Quality of SYNTHETIC {synthesis['modality']}, NOT FOR DIAGNOSIS"
    _write(built, instances[0], path, overwrite=overwrite)


class _Made:
    """UIDs and equipment of one object.

    Parameters
    ----------
    synthesis : mapping
        ``meta["synthesis"]`` of the result.
    uid_seed : str
        As `UidMaker`.
    purpose : str
        A key of `_SERIES_NUMBERS`.
    first : Dataset
        First instance of the series that it measures.
    digest
        Hash of what it holds.
    """

    def __init__(
        self, synthesis: Mapping[str, Any], uid_seed: str, purpose: str, first: Dataset, digest: Any
    ) -> None:
        self._synthesis, self._purpose, self._first = synthesis, purpose, first
        self._parts = (purpose, str(first.SOPInstanceUID), digest.hexdigest())
        self._uids = UidMaker(uid_seed, basis_of(synthesis, SOFTWARE))

    def uid(self, purpose: str, *more: str) -> str:
        """Give one UID."""
        return self._uids.make(purpose, *self._parts, *more)

    def keywords(self) -> dict[str, Any]:
        """Give what highdicom asks for of every object."""
        return {
            "series_instance_uid": self.uid("series"),
            "series_number": int(self._first.SeriesNumber) + _SERIES_NUMBERS[self._purpose],
            "sop_instance_uid": self.uid("instance"),
            "instance_number": 1,
            "manufacturer": "medtranslate",
            "manufacturer_model_name": ascii_text(self._synthesis["model"]),
            "software_versions": [SOFTWARE, ascii_text(self._synthesis["version"])],
            "device_serial_number": ascii_text(self._synthesis["weights_sha256"]),
        }

    def algorithm(self) -> Any:
        """Name the model."""
        from highdicom.sr import AlgorithmIdentification

        made = self._synthesis
        return AlgorithmIdentification(ascii_text(made["model"]), ascii_text(made["version"]))


def _instances(series: Path) -> list[Dataset]:
    """Read the headers of a derived series, in order of position.

    What it says of patient and study is emptied, which highdicom would decode and check; `_write`
    copies it.
    """
    instances: list[Dataset] = []
    for file in sorted(series.glob("*.dcm")):
        head = pydicom.dcmread(file, stop_before_pixels=True)
        for keyword in _COPIED:
            if keyword in _ASKED_FOR:
                setattr(head, keyword, "")
            elif keyword in head and keyword != "StudyInstanceUID":
                del head[keyword]
        instances.append(head)
    return instances


def _groups(figures: Mapping[str, Any], instances: Sequence[Dataset], made: _Made) -> Iterator[Any]:
    """Yield the measurement groups (TID 1501): the scan's, then one for each slice."""
    from highdicom import sr

    measures = {
        name: figures[name.replace(" ", "_")]
        for name in _QUANTITIES
        if figures.get(name.replace(" ", "_"))
    }
    whole = []
    for name, measure in measures.items():
        unit = _unit(measure["units"])
        whole.append(sr.Measurement(_QUANTITIES[name], measure["error"], unit))
        share = measure["share_of_range"]
        whole.append(sr.Measurement(_SHARES[name], share, codes.UCUM.NoUnits))
    domain, unseen = figures.get("domain", {}), figures.get("unseen", {})
    if domain.get("score") is not None:
        score = float(domain["score"])
        whole.append(sr.Measurement(_ANOMALY_SCORE, score, codes.UCUM.NoUnits))
    if "outside_field_voxels" in unseen:
        outside = float(unseen["outside_field_voxels"])
        whole.append(sr.Measurement(_OUTSIDE, outside, codes.UCUM.NoUnits))
    verdict = _VERDICTS.get(domain.get("verdict", ""))
    yield sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(made.uid("tracking"), "scan"),
        algorithm_id=made.algorithm(),
        measurements=whole,
        qualitative_evaluations=(
            [sr.QualitativeEvaluation(_DOMAIN_CHECK, verdict)] if verdict else None
        ),
    )
    by_index: dict[int, list[Any]] = {}
    for name, measure in measures.items():
        unit = _unit(measure["units"])
        for one in measure["slices"]:
            group = by_index.setdefault(one["index"], [])
            group.append(sr.Measurement(_QUANTITIES[name], one["error"], unit))
            if one["peak"] is not None:
                group.append(sr.Measurement(_PEAKS[name], one["peak"], unit))
    for index, group in sorted(by_index.items()):
        measured = instances[index] if instances else None
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                made.uid("tracking", str(index)), f"slice {index}"
            ),
            algorithm_id=made.algorithm(),
            measurements=group,
            source_images=(
                [sr.SourceImageForMeasurementGroup(measured.SOPClassUID, measured.SOPInstanceUID)]
                if measured is not None
                else None
            ),
        )


def _unit(units: str) -> Code:
    unit: Code = codes.UCUM.HounsfieldUnit if units == "HU" else codes.UCUM.NoUnits
    return unit


def _write(built: Dataset, first: Dataset, path: Path, *, overwrite: bool) -> None:
    """Write an object with patient and study as the bytes that the derived series has."""
    plain = Dataset()
    plain.update(built)
    again = pydicom.dcmread(first.filename, stop_before_pixels=True)
    for keyword in _COPIED:
        if keyword in again:
            tag = pydicom.datadict.tag_for_keyword(keyword) or 0
            plain[tag] = again.get_item(tag)
        elif keyword in plain:
            del plain[keyword]
    plain.SyntheticData = "YES"
    with whole_file(path, overwrite=overwrite) as temporary:
        save(keep_bytes(plain), temporary)
