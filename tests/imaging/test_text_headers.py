"""Headers of MetaImage and NRRD: read as ITK reads them, and never followed out of their folder."""

from __future__ import annotations

import bz2
import gzip
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging import read, survey, write
from medtranslate.imaging.text_headers import read_stored, read_text_header

NUMBERS = np.arange(60, dtype=np.int16)
MHA = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "DimSize": "5 4 3",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "1 2 3",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "5 4 3",
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "space origin": "(7,8,9)",
    "endian": "little",
    "encoding": "raw",
}


def metaimage(path, fields=(), content=None, lines=()):
    """Write a header, with extra lines before its last, and the voxels."""
    given = {**MHA, **dict(fields)}
    last = given.pop("ElementDataFile")
    text = [f"{key} = {value}" for key, value in given.items() if value is not None]
    text += [*lines, f"ElementDataFile = {last}", ""]
    voxels = NUMBERS.tobytes() if content is None else content
    path.write_bytes("\n".join(text).encode("utf-8", "surrogateescape") + voxels)
    return path


def nrrd(path, fields=(), content=None, lines=()):
    given = {**NRRD, **dict(fields)}
    text = ["NRRD0004", *(f"{key}: {value}" for key, value in given.items() if value is not None)]
    voxels = NUMBERS.tobytes() if content is None else content
    path.write_bytes("\n".join([*text, *lines, "", ""]).encode() + voxels)
    return path


def values(path):
    return read(path).numpy()[0].ravel(order="F").tolist()


def same_as_itk(path, tolerance):
    header, image = read_text_header(path), sitk.ReadImage(str(path))
    stored, notes = read_stored(header)
    voxels = sitk.GetArrayFromImage(image).T
    np.testing.assert_array_equal(stored, voxels)
    assert (stored.dtype, notes) == (voxels.dtype, [])
    theirs = (*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection())
    ours = (*header.origin, *header.spacing, *header.direction)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("space", ["LPS", "RAS", "LAS", "right-anterior-superior"])
def test_an_nrrd_lies_where_itk_places_it(tmp_path, space):
    directions = "(1,.1,0) (0,2,.3) (0,0,3)"
    path = nrrd(tmp_path / "a.nrrd", {"space": space, "space directions": directions})
    same_as_itk(path, 1e-15)


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.floats(-300, 300), min_size=15, max_size=15),
    kind=st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "int64", "float32"]),
    suffix=st.sampled_from([".mha", ".mhd", ".nrrd", ".nhdr"]),
    packed=st.booleans(),
)
def test_what_itk_writes_is_read_as_itk_reads_it(tmp_path_factory, numbers, kind, suffix, packed):
    image = sitk.GetImageFromArray(np.arange(60).reshape(3, 4, 5).astype(kind))
    image.SetOrigin(numbers[:3])
    image.SetSpacing([abs(number) + 0.01 for number in numbers[3:6]])
    matrix = np.eye(3) + np.reshape(numbers[6:], (3, 3)) / 1000
    image.SetDirection((matrix / np.linalg.norm(matrix, axis=0)).ravel().tolist())
    path = tmp_path_factory.mktemp("itk") / f"a{suffix}"
    sitk.WriteImage(image, str(path), packed)
    same_as_itk(path, 1e-12)


@pytest.mark.parametrize(
    "line",
    ["dim[0] = 3", "NRRD_kinds[0] = domain", "0008|0005 = ISO_IR 100", "0010|0010 = A=B: C",
     "0032|4000 = first line\nsecond line of it", "0008|103e = K\udcf6pf",
     "a very = " + "x" * 9999],
)  # fmt: skip
def test_keys_that_metaio_does_not_know_are_passed_over(tmp_path, line):
    assert values(metaimage(tmp_path / "a.mha", lines=[line])) == NUMBERS.tolist()


def test_metaimages_that_simpleitk_makes_of_other_formats_are_read(tmp_path, nifti_file, voxels):
    other = sitk.ReadImage(str(nifti_file(voxels, np.diag([-1.0, -2.0, 3.0, 1.0]))))
    for name in ("a.mha", "b.mhd", "c.nrrd"):
        sitk.WriteImage(other, str(tmp_path / name))
        np.testing.assert_array_equal(read(tmp_path / name).numpy()[0], voxels)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "c.nrrd")), str(tmp_path / "d.mha"))
    np.testing.assert_array_equal(read(tmp_path / "d.mha").numpy()[0], voxels)


@pytest.mark.parametrize("line", [
    " ElementDataFile = /etc/passwd", "\tElementDataFile = /etc/passwd",
    "ElementDataFile: /etc/passwd",
    "ElementDataFile = ../x.raw", "ElementDataFile = -", "ElementDataFile = sub/x.raw",
])  # fmt: skip
def test_no_metaimage_names_a_file_outside_its_folder(tmp_path, line):
    with pytest.raises(UntrustedInput, match="outside its folder"):
        read(metaimage(tmp_path / "a.mha", lines=[line]))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.raw", "-", ".", "sub/x.raw"])
def test_no_nrrd_names_a_file_outside_its_folder(tmp_path, name):
    with pytest.raises(UntrustedInput, match="outside its folder"):
        read(nrrd(tmp_path / "a.nrrd", {"data file": name}))


def test_a_field_behind_a_carriage_return_in_a_comment_is_not_followed(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", lines=["# x\rdata file: /etc/passwd"])
    with pytest.raises(Unreadable, match="looks like 'data file'"):
        read(path)


@pytest.mark.parametrize("name", ["LIST", "list", "LIST 2D", "LIST 3", "x%03d.raw 1 3 1"])
def test_voxels_in_a_list_of_files_are_refused(tmp_path, name):
    for path in (
        metaimage(tmp_path / "a.mhd", {"ElementDataFile": name}),
        nrrd(tmp_path / "a.nhdr", {"data file": name}),
    ):
        with pytest.raises(Unsupported, match="list of files"):
            read(path)


def test_a_data_file_behind_a_link_is_read_from_a_git_annex_only(tmp_path):
    objects = tmp_path / ".git" / "annex" / "objects" / "xx"
    objects.mkdir(parents=True)
    (objects / "key.raw").write_bytes(NUMBERS.tobytes())
    (tmp_path / "secret").write_bytes(NUMBERS.tobytes())
    (tmp_path / "sub").mkdir()
    path = metaimage(tmp_path / "sub" / "a.mhd", {"ElementDataFile": "a.raw"}, b"")
    (tmp_path / "sub" / "a.raw").symlink_to("../.git/annex/objects/xx/key.raw")
    assert values(path) == NUMBERS.tolist()
    (tmp_path / "sub" / "a.raw").unlink()
    (tmp_path / "sub" / "a.raw").symlink_to("../secret")
    with pytest.raises(UntrustedInput, match="behind a link"):
        read(path)


@pytest.mark.parametrize("packed", [
    ("raw", bytes), ("gzip", gzip.compress), ("gz", gzip.compress), ("bzip2", bz2.compress),
    ("hex", lambda content: content.hex().encode()),
    ("ascii", lambda content: " ".join(map(str, NUMBERS)).encode()),
])  # fmt: skip
def test_every_encoding_of_nrrd(tmp_path, packed):
    encoding, pack = packed
    path = nrrd(tmp_path / "a.nrrd", {"encoding": encoding}, pack(NUMBERS.tobytes()))
    assert values(path) == NUMBERS.tolist()
    damaged = bytearray(path.read_bytes())
    damaged[-4:] = b"\xff\xfe\xfd\xfc"
    path.write_bytes(damaged)
    if encoding != "raw":
        with pytest.raises(Unreadable, match="damaged"):
            read(path)


@pytest.mark.parametrize("packing", ["zlib", "gzip", "bz2"])
@pytest.mark.parametrize("change", ["longer", "shorter", "followed"])
def test_a_stream_that_holds_more_or_less_than_the_voxels_is_damaged(tmp_path, packing, change):
    pack = {"zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress}[packing]
    voxels = NUMBERS.tobytes()
    content = {
        "longer": pack(voxels + voxels),
        "shorter": pack(voxels[:-2]),
        "followed": pack(voxels) + b"remains",
    }[change]
    if packing == "zlib":
        path = metaimage(tmp_path / "a.mha", {"CompressedData": "True"}, content)
    else:
        path = nrrd(tmp_path / "a.nrrd", {"encoding": packing}, content)
    with pytest.raises(Unreadable, match=r"damaged|truncated"):
        read(path)


def test_voxels_after_something_else(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"line\n1234" + NUMBERS.tobytes())
    named = {"ElementDataFile": "a.raw"}
    for skipped in ("9", "-1"):
        path = metaimage(tmp_path / "a.mhd", {**named, "HeaderSize": skipped}, b"")
        assert values(path) == NUMBERS.tolist()
    skips = {"data file": "a.raw", "line skip": "1", "byte skip": "4"}
    assert values(nrrd(tmp_path / "a.nhdr", skips, b"")) == NUMBERS.tolist()
    skips = {"data file": "a.raw", "byte skip": "-1"}
    assert values(nrrd(tmp_path / "b.nhdr", skips, b"")) == NUMBERS.tolist()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Name": "A" * 300}, "Name has 300 characters"),
        ({"NDims": "-3"}, "NDims"),
        ({"NDims": "99"}, "NDims"),
        ({"DimSize": "5 4"}, "DimSize"),
        ({"DimSize": "5 4 3.5"}, "DimSize"),
        ({"ElementType": "MET_SHOT"}, "ElementType"),
        ({"BinaryData": "Tru"}, "BinaryData"),
        ({"ElementSpacing": "1 2 x"}, "ElementSpacing"),
        ({"Offset": "1 2 3", "Origin": "1 2 4"}, "contradicts"),
        ({"ElementByteOrderMSB": "True", "BinaryDataByteOrderMSB": "False"}, "two byte orders"),
        ({"HeaderSize": "12"}, "HeaderSize"),
        ({"Off3et": "1 2 3"}, "looks like 'Offset'"),
        ({"ElementSpacing": None, "ElementSpacinG": "1 2 3"}, "looks like 'ElementSpacing'"),
        ({"CompressedData": "True"}, "compressed voxels"),
    ],
)
def test_damaged_metaimage_headers(tmp_path, fields, fault):
    with pytest.raises(Unreadable, match=fault):
        read(metaimage(tmp_path / "a.mha", fields))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"kinds": "A" * 9999}, "kinds for 3 axes"),
        ({"kinds": "domain domain domaim"}, "kind"),
        ({"sizes": "5 4"}, "sizes"),
        ({"sizes": "5 4 -3"}, "no voxels"),
        ({"endian": None}, "endian"),
        ({"encoding": "rww"}, "encoding"),
        ({"space": "left-posterior-supe\x01ior"}, "damaged NRRD header"),
        ({"space directions": "(1,0,0) (0,2,0)"}, "2 space directions"),
        ({"space origin": None, "#pace origin": "(7,8,9)"}, "looks like 'space origin'"),
        ({"nonsense": "x"}, "nonsense"),
        ({"content": "x" * 70000}, "a line of"),
        ({"data file": "m.raw" + "A" * 9999}, "too long"),
        ({"encoding": "ascii"}, "numbers|truncated"),
    ],
)
def test_damaged_nrrd_headers(tmp_path, fields, fault):
    with pytest.raises(MedTranslateError, match=fault) as caught:
        read(nrrd(tmp_path / "a.nrrd", fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", [b"A" * 70000, b"9" * 1500, b"70000", b"1e3", b"-"])
def test_text_that_is_no_number_of_its_type(tmp_path, word):
    path = nrrd(tmp_path / "a.nrrd", {"encoding": "ascii"}, word + b" 1" * 59)
    with pytest.raises(Unreadable, match="damaged"):
        read(path)


def test_a_small_file_that_claims_more_than_it_can_hold(tmp_path):
    for encoding, kind in (("raw", Unreadable), ("gzip", Unreadable), ("bz2", UntrustedInput)):
        path = nrrd(tmp_path / "a.nrrd", {"sizes": "1000 1000 2000", "encoding": encoding})
        with pytest.raises(kind):
            read(path)


def test_scalings_on_which_readers_differ_are_refused(tmp_path):
    with pytest.raises(Unsupported, match="differ on whether to apply"):
        read(metaimage(tmp_path / "a.mha", {"ElementToIntensityFunctionSlope": "2"}))
    for unit in ("um", "cm"):
        with pytest.raises(Unsupported, match=f"DistanceUnits is {unit}"):
            read(metaimage(tmp_path / "a.mha", {"DistanceUnits": unit}))
    assert values(metaimage(tmp_path / "a.mha", {"DistanceUnits": "mm"})) == NUMBERS.tolist()


@pytest.mark.parametrize("written", ['"cm" "cm" "cm"', "cm cm cm", '"mm" "mm" "um"'])
@pytest.mark.parametrize("field", ["space units", "units"])
def test_lengths_of_an_nrrd_that_are_not_mm_are_refused(tmp_path, field, written):
    with pytest.raises(Unsupported, match="unit of space"):
        read(nrrd(tmp_path / "a.nrrd", {field: written}))
    bare = dict.fromkeys(("space", "space directions", "space origin"))
    with pytest.raises(Unsupported, match="unit of space"):
        read(nrrd(tmp_path / "a.nrrd", {**bare, "spacings": "1 2 3", field: written}))
    for right in ('"mm" "MM" "millimeters"', "mm mm mm"):
        assert values(nrrd(tmp_path / "a.nrrd", {field: right})) == NUMBERS.tolist()


def test_what_a_metaimage_does_not_say_is_assumed_with_a_note(tmp_path):
    path = metaimage(tmp_path / "a.mha", {"ElementSpacing": None})
    image = read(path)
    assert image.meta["source"]["faults"] == [
        "The header gives no spacing; voxels of 1 mm are assumed.",
        "The header gives no orientation; left-posterior-superior is assumed.",
        "The header gives no position; (0, 0, 0) is assumed.",
    ]
    np.testing.assert_array_equal(image.affine, np.diag([-1.0, -1, 1, 1]))
    itk = sitk.ReadImage(str(path))
    assert (itk.GetSpacing(), itk.GetOrigin()) == ((1, 1, 1), (0, 0, 0))
    placed = {"Rotation": "0 1 0 1 0 0 0 0 1", "Position": "1 2 3", "ElementSize": "1 2 3"}
    image = read(metaimage(path, {"ElementSpacing": None, **placed}))
    assert image.meta["source"]["faults"] == []


def test_a_list_of_files_is_refused_by_name(tmp_path):
    for name, lines in (("LIST", ["a.raw", "b.raw"]), ("list 2", ["a: b"]), ("a%d.raw 1 3 1", [])):
        with pytest.raises(Unsupported, match="spread over a list of files"):
            read(nrrd(tmp_path / "a.nhdr", {"data file": name}, b"", lines))
    with pytest.raises(Unsupported, match="spread over a list of files"):
        read(metaimage(tmp_path / "a.mhd", {"ElementDataFile": "LIST"}, b"a.raw"))


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "3D-left-handed-time"])
def test_a_space_without_left_and_right_is_refused(tmp_path, space):
    with pytest.raises(Unsupported, match="does not say where left is"):
        read(nrrd(tmp_path / "a.nrrd", {"space": space}))


def test_hexadecimal_voxels_may_be_broken_into_lines_anywhere(tmp_path):
    digits = NUMBERS.tobytes().hex().upper()
    lines = "\n".join(digits[at : at + 35] for at in range(0, len(digits), 35))
    path = nrrd(tmp_path / "a.nrrd", {"encoding": "hex"}, lines.encode())
    assert values(path) == NUMBERS.tolist()


@pytest.mark.parametrize("unknown", ["nan", "NaN"])
def test_a_spacing_that_is_not_known_is_taken_as_1_mm(tmp_path, unknown):
    bare = dict.fromkeys(("space", "space directions", "space origin"))
    image = read(nrrd(tmp_path / "a.nrrd", {**bare, "spacings": f"{unknown} 2 3"}))
    np.testing.assert_array_equal(image.affine, np.diag([-1.0, -2, 3, 1]))


def test_the_survey_sees_what_the_reader_sees(tmp_path):
    metaimage(tmp_path / "a.mhd", {"ElementDataFile": "a.raw"}, b"")
    (tmp_path / "a.raw").write_bytes(NUMBERS.tobytes())
    (found,) = survey(tmp_path)
    assert (found.shape, found.spacing, found.error) == ((5, 4, 3), (1.0, 2.0, 3.0), "")


def test_a_label_is_found_again(tmp_path, nifti_file, voxels, translated):
    for name in ("a.mha", "a.nrrd"):
        write(translated(read(nifti_file(voxels))), tmp_path / name)
        (found,) = survey(tmp_path / name)
        assert found.modality_basis == "label SYNTHETIC MR"
