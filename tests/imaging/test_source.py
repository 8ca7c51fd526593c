"""Affines, shapes and sources at the edges of what is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medtranslate.errors import Unsupported, UntrustedInput
from medtranslate.imaging.source import (
    LARGEST_VOLUME,
    Scan,
    SourceRecord,
    array_source,
    check_affine,
    check_shape,
    check_source,
    orientation,
    pack_bits,
    short_label,
    unpack_bits,
)


def test_shapes_are_given_three_axes():
    assert check_shape((5, 4)) == (5, 4, 1)
    assert check_shape((5, 4, 3, 1, 1)) == (5, 4, 3)
    assert check_shape((1, 3, 3)) == (1, 3, 3)
    for shape, fault in (
        ((5,), "is no image"),
        ((5, 2, 2), "is no image"),
        ((5, 4, 0), "has no voxels"),
        ((5, 4, 3, 2, 3), "holds 6 volumes"),
    ):
        with pytest.raises(Unsupported, match=fault):
            check_shape(shape)
    assert LARGEST_VOLUME == 2**31
    assert check_shape((2**11, 2**10, 2**10)) == (2**11, 2**10, 2**10)
    with pytest.raises(UntrustedInput, match="claims too many voxels"):
        check_shape((LARGEST_VOLUME // 4, 5, 1), "scan.nii")


def test_a_scan_gives_monai_its_affine_shape_and_space_in_its_types():
    source = {"affine": np.diag([2, 3, 4, 1]).tolist(), "shape": [5, 4, 3], "files": ["a.nii"]}
    meta = Scan(np.zeros((5, 4, 3), np.float32), source).meta()
    assert meta["affine"].dtype == meta["original_affine"].dtype == np.float64
    assert meta["affine"] is not meta["original_affine"]
    np.testing.assert_array_equal(meta["affine"], np.diag([2, 3, 4, 1]))
    assert meta["spatial_shape"].dtype == np.int64 and meta["spatial_shape"].tolist() == [5, 4, 3]
    assert meta["space"] == "RAS" and meta["source"] == source


def test_a_record_is_parsed_once_and_known_by_its_text():
    record = SourceRecord.of({"files": ["a.dcm", "b.dcm"]})
    assert {record, SourceRecord.of(dict(record.items()))} == {record}
    assert record["files"] is record["files"]


def test_affines_that_place_nothing_are_refused_by_axis():
    placing = np.diag([0.5, 2.0, 3.0, 1.0])
    np.testing.assert_array_equal(check_affine(placing), placing)
    for axis, name in enumerate("XYZ"):
        affine = placing.copy()
        affine[:, axis] = 0
        with pytest.raises(Unsupported, match=f"zero along axis {name}") as raised:
            check_affine(affine, "scan.nii")
        assert raised.value.path == "scan.nii"
        affine[0, axis] = np.inf
        with pytest.raises(Unsupported, match="not finite"):
            check_affine(affine)
    flat = placing.copy()
    flat[:3, 2] = flat[:3, 0] + flat[:3, 1]
    with pytest.raises(Unsupported, match="singular"):
        check_affine(flat)
    flat[2, 2] = 1e-4  # a shear of nearly 90 degrees still places voxels
    check_affine(flat)


def test_an_image_that_left_its_source_is_refused():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    image = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.from_numpy(affine))
    source = array_source(image, modality="CT")
    assert source == {
        "format": "array",
        "kind": "volume",
        "files": [],
        "modality": "CT",
        "modality_basis": "given",
        "contrast": "",
        "contrast_basis": "",
        "shape": [4, 5, 6],
        "affine": affine.tolist(),
        "dtype": "float32",
        "faults": [],
        "even": True,
        "header": {},
    }
    assert array_source(image)["modality_basis"] == ""
    image.meta["source"] = SourceRecord.of(source)
    assert check_source(image) == source
    image.affine[0, 3] += 0.9e-4
    check_source(image)
    image.affine[0, 3] += 1e-4
    with pytest.raises(Unsupported, match=r"differs by up to 0\.00019\)"):
        check_source(image, "out.nii")
    other = MetaTensor(torch.zeros(1, 4, 5, 7), meta=dict(image.meta))
    with pytest.raises(Unsupported, match=r"shape \[1, 4, 5, 7\] no longer agrees"):
        check_source(other)
    with pytest.raises(Unsupported, match="does not say where it came from"):
        check_source(MetaTensor(torch.zeros(1, 2, 2, 2)))


def test_names_of_directions():
    assert orientation(np.diag([1.0, 1, 1, 1])) == "RAS"
    turned = np.array([[0, 0, -2.0, 0], [3.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    assert orientation(turned) == "AIL"


def test_a_label_gives_way_by_version_and_then_by_name():
    made = {"modality": "MR", "model": "brain", "version": "1.0", "contrast": "flair"}
    made["label"] = "SYNTHETIC MR FLAIR from CT, brain 1.0, NOT FOR DIAGNOSIS"
    assert short_label(made, 56) == made["label"]
    middle = "SYNTHETIC MR FLAIR, NOT FOR DIAGNOSIS, brain 1.0"
    assert short_label(made, 55) == middle == short_label(made, 48)
    assert short_label(made, 47) == "SYNTHETIC MR FLAIR, NOT FOR DIAGNOSIS, brain"
    assert short_label(made, 40) == "SYNTHETIC MR FLAIR, NOT FOR DIAGNOSIS, b"
    plain = {**made, "contrast": "", "model": "gehirn ä"}
    assert short_label(plain, 45) == "SYNTHETIC MR, NOT FOR DIAGNOSIS, gehirn ? 1.0"
    assert short_label({**made, "label": "ä" * 3}, 9) == "???"


def test_masks_come_back_from_text():
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    np.testing.assert_array_equal(unpack_bits(pack_bits(mask), (5, 7)), mask)


def test_a_record_reads_like_its_mapping():
    record = SourceRecord.of({"modality": "CT", "files": ["a"]})
    assert SourceRecord.of(record) is record
    assert (record["modality"], record.get("none"), record.get("none", 3)) == ("CT", None, 3)
    assert list(record) == ["modality", "files"] and len(record) == 2
    assert "files" in record and "CT" not in record
    assert record == {"modality": "CT", "files": ["a"]} and record != {"modality": "CT"}
    assert record == SourceRecord.of({"files": ["a"], "modality": "CT"})
    assert dict(record.items()) == {"modality": "CT", "files": ["a"]}


def test_an_axis_without_a_direction_is_named_by_a_question_mark():
    assert orientation(np.diag([-1.0, 0.0, 1.0, 1.0])) == "L?S"
