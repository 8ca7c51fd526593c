from __future__ import annotations

import pickle
import threading
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from head_scans import centered, depth, head_ct, image_2d, world
from monai.data import MetaTensor, list_data_collate
from PIL import Image
from tiny_bundles import tiny_bundle, tiny_networks

from medtranslate.domain_check import Judgment
from medtranslate.errors import (
    DeviceUnusable,
    InputMissing,
    InvalidOption,
    ModelUnusable,
    OutOfDomain,
    Unsupported,
    WrongModality,
)
from medtranslate.phantom import Phantom
from medtranslate.transforms import Limits
from medtranslate.translation import Translator


def inside(scan: MetaTensor) -> np.ndarray:
    return depth(world(tuple(scan.shape[1:]), scan.affine.numpy()))


def test_ct_to_mri(translator, ct):
    before = ct.clone()
    made = translator.translate(ct, to="mri")
    values = made.as_tensor()[0].numpy()
    assert made.shape == ct.shape
    assert made.dtype == torch.float32
    assert torch.equal(made.affine, ct.affine)
    assert made.affine.dtype == torch.float64
    assert made.affine is not ct.affine
    assert (values == np.round(values)).all()
    assert values.min() == 0
    assert values.max() <= 4095
    assert values[inside(ct) < 0.95].std() > 0
    assert (values[inside(ct) > 1.12] == 0).all()
    assert torch.equal(ct, before)
    assert made.meta["source"] == ct.meta["source"]
    synthesis = made.meta["synthesis"]
    assert synthesis == {
        "modality": "MR",
        "model": "tiny",
        "version": "0.7",
        "weights_sha256": translator.bundle.generator("mri").sha256,
        "contrast": "",
        "source_contrast": "",
        "label": "SYNTHETIC MR from CT, tiny 0.7, NOT FOR DIAGNOSIS",
        "dtype": "int16",
        "background": 0.0,
        "window": [],
        "range": [],
        "grain": 0.0,
    }


@pytest.mark.parametrize("batch", [1, 4])
def test_the_type_that_is_written_holds_the_same_values(bundle_folder, ct, batch):
    translator = Translator.load(bundle_folder, device="cpu", precision="float32", batch_size=batch)
    made = translator.translate(ct, to="mri")
    source = dict(ct.meta["source"])
    _, prepared = translator.prepare(ct, source, "mri")

    written = translator.translate_prepared(ct, source, prepared, to="mri", as_written=True)

    assert written.dtype == torch.int16
    assert torch.equal(written.as_tensor().float(), made.as_tensor())
    assert written.meta["synthesis"] == made.meta["synthesis"]


def test_values_that_the_type_to_write_does_not_hold_stay_floats(tmp_path, ct):
    bundle = tiny_bundle(tmp_path / "far")
    translator = Translator.load(bundle, device="cpu", precision="float32")
    target = translator.bundle.recipe("MR", "volume")
    target.units.transform.limits = Limits(0.0, 40000.0)
    source = dict(ct.meta["source"])
    _, prepared = translator.prepare(ct, source, "mri")

    made = translator.translate_prepared(ct, source, prepared, to="mri", as_written=True)

    assert made.dtype == torch.float32 and made.max() > 32767


def test_network_and_places_are_asked_some_batches_at_a_time(translator, ct, monkeypatch):
    lengths = []
    run = type(translator.device).run

    def counted(self, network, slices, progress):
        lengths.append(len(slices))
        return run(self, network, slices, progress)

    monkeypatch.setattr(type(translator.device), "run", counted)
    monkeypatch.setattr("medtranslate.translation.translator._BATCHES", 1)
    seen = []
    translator.translate(ct, to="mri", progress=lambda done, of: seen.append((done, of)))

    assert max(lengths) <= translator.device.batch and len(lengths) > 1
    assert seen == sorted(seen) and seen[-1] == (sum(lengths),) * 2


class Stub:
    """A domain check that gives one verdict."""

    def __init__(self, verdict: str) -> None:
        reasons = () if verdict == "passed" else ("lying on its side", "cut off")
        self.judgment = Judgment(verdict, 1.75, (1.5, 2.5), reasons)  # type: ignore[arg-type]

    def judge(self, prepared: object, source: object) -> Judgment:
        return self.judgment


def checking(translator: Translator, verdict: str) -> Translator:
    return replace(translator, domain_check=Stub(verdict))  # type: ignore[arg-type]


def test_what_the_domain_check_refuses_is_not_translated_unless_forced(translator, ct):
    refusing = checking(translator, "refused")
    with pytest.raises(OutOfDomain, match=r"lying on its side.*force=True"):
        refusing.translate(ct, to="mri")
    forced = refusing.translate(ct, to="mri", force=True)
    unchecked = refusing.translate(ct, to="mri", check=False)
    assert torch.equal(forced, unchecked)
    assert forced.meta["quality"]["domain"]["verdict"] == "refused"
    assert unchecked.meta["quality"]["domain"]["verdict"] == "not checked"


def test_the_figures_of_the_domain_check_are_on_the_result(translator, ct):
    made = checking(translator, "warned").translate(ct, to="mri")
    assert made.meta["quality"]["domain"] == {
        "verdict": "warned",
        "score": 1.75,
        "warn_from": 1.5,
        "refuse_from": 2.5,
        "reasons": "lying on its side; cut off",
    }


def test_results_of_different_verdicts_collate_into_a_batch(translator, ct):
    verdicts = [checking(translator, verdict) for verdict in ("passed", "warned")]
    batch = list_data_collate([each.translate(ct, to="mri") for each in (*verdicts, translator)])
    found = batch.meta["quality"]["domain"]
    assert found["verdict"] == ["passed", "warned", "not checked"]
    assert found["score"].tolist() == [1.75, 1.75, -1.0]


def test_the_shipped_model_refuses_a_head_on_its_side_from_python():
    translator, head = Translator.load(device="cpu"), Phantom().volume()
    aside = head.clone()
    aside.copy_(torch.rot90(head.as_tensor(), 1, (1, 2)))
    with pytest.raises(OutOfDomain, match="lying on its side"):
        translator.translate(aside, to="mri")


def test_a_translator_is_shown_in_a_line(translator):
    assert repr(translator) == "Translator(tiny 0.7, to mri or ct, on cpu in float32)"


def test_mri_to_ct(translator, mr):
    made = translator.translate(mr, to="ct")
    values = made.as_tensor()[0].numpy()
    assert torch.equal(made.affine, mr.affine)
    assert (values == np.round(values)).all()
    head = values != -1000
    assert values[head].min() >= -20
    assert values[head].max() <= 100
    assert head[inside(mr) < 0.95].all()
    assert not head[inside(mr) > 1.12].any()
    assert made.meta["synthesis"]["background"] == -1000
    assert made.meta["synthesis"]["window"] == [-20.0, 100.0]
    assert made.meta["synthesis"]["label"].startswith("SYNTHETIC CT from MR")


@pytest.mark.parametrize(("modality", "to"), [("CT", "mri"), ("MR", "ct")])
def test_2d_images(translator, modality, to):
    y, x = np.mgrid[:181, :150]
    head = ((y - 90) / 70) ** 2 + ((x - 74) / 55) ** 2 <= 1
    image = image_2d(np.where(head, 90.0 + x / 2, 0), modality)
    made = translator.translate(image, to=to)
    values = made.as_tensor()[0, ..., 0].numpy().T
    assert made.shape == image.shape
    assert torch.equal(made.affine, image.affine)
    assert (values == np.round(values)).all()
    assert values.min() >= 0
    assert values.max() <= 255
    assert (values[:10] == 0).all()
    assert made.meta["synthesis"]["dtype"] == "uint8"
    assert made.meta["synthesis"]["window"] == []


def test_what_the_field_does_not_see_is_background(translator):
    shape = (200, 190, 2)
    scan = head_ct(shape, centered(np.diag([-2.0, -2.0, 30.0]), shape))
    scan[:, :3] = 40.0  # tissue at the rim, 200 mm from the head
    made = translator.translate(scan, to="mri")
    assert (made[:, :20] == 0).all()


def test_twice_the_same_bits(translator, ct):
    assert torch.equal(translator.translate(ct, to="mri"), translator.translate(ct, to="mri"))


@pytest.mark.parametrize("batch", [1, 2, 5, 32])
def test_the_batch_does_not_matter(translator, bundle_folder, ct, batch):
    """Float32 sums in another order (batch, threads) move no voxel by a quarter gray level."""
    other = Translator.load(bundle_folder, device="cpu", precision="float32", batch_size=batch)
    expected, made = (each.translate(ct, to="mri") for each in (translator, other))
    assert (made - expected).abs().max() < 4095 / 255 / 4
    assert (made != expected).float().mean() < 0.02


def test_bfloat16_moves_the_image_a_little(translator, bundle_folder, ct):
    rounded = Translator.load(bundle_folder, device="cpu", precision="bfloat16")
    expected, made = (each.translate(ct, to="mri") for each in (translator, rounded))
    head = inside(ct) < 0.95
    error = (made - expected).abs()[0].numpy()[head] / 4095 * 255
    assert error.mean() < 3  # gray levels; drawn weights are harsher than trained ones
    assert torch.equal(made.affine, expected.affine)


def test_slices_without_a_head_are_not_translated(translator, ct):
    seen: list[tuple[int, int]] = []
    ct[..., :2] = -1000.0
    made = translator.translate(ct, to="mri", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (4, 4)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert (made[..., :2] == 0).all()
    assert (made[..., 2:] != 0).any()


def test_progress(bundle_folder, ct):
    seen: list[tuple[int, int]] = []
    translator = Translator.load(bundle_folder, device="cpu", batch_size=4)
    translator.translate(ct, to="mri", progress=lambda done, of: seen.append((done, of)))
    assert seen == [(4, 6), (6, 6)]


@pytest.mark.parametrize(("modality", "to", "other"), [("CT", "ct", "mri"), ("MR", "mri", "ct")])
def test_already_the_target(translator, ct, modality, to, other):
    ct.meta["source"]["modality"] = modality
    ct.meta["source"]["modality_basis"] = "guess: made"
    with pytest.raises(WrongModality, match=rf"is {modality} already \(guess: made\)") as told:
        translator.translate(ct, to=to)
    assert f"--to {other}, or say what it is with --from {other}" in str(told.value)
    ct.meta["source"]["modality_basis"] = "header Modality"
    with pytest.raises(WrongModality, match=rf"of it with --to {other}\)$"):
        translator.translate(ct, to=to)


def test_the_callers_word_settles_it(translator, ct):
    ct.meta["source"]["modality"] = ""
    with pytest.raises(WrongModality, match="cannot tell"):
        translator.translate(ct, to="mri")
    made = translator.translate(ct, to="mri", modality="CT")
    assert made.meta["source"]["modality_basis"] == "given"
    assert ct.meta["source"]["modality"] == ""
    with pytest.raises(WrongModality, match="is CT already"):
        translator.translate(ct, to="ct", modality="CT")


def test_words_that_mean_nothing(translator, ct):
    with pytest.raises(ValueError, match=r"to must be one of ct, mri .*, got 'pet'"):
        translator.translate(ct, to="pet")
    with pytest.raises(ValueError, match="modality must be"):
        translator.translate(ct, to="mri", modality="PET")
    with pytest.raises(ValueError, match="to must be"):
        translator.translate_slices(torch.zeros(1, 1, 256, 256), to="pet")


def test_no_head(translator, ct):
    ct[:] = -1000.0
    with pytest.raises(OutOfDomain, match="no head"):
        translator.translate(ct, to="mri", modality="CT")


@pytest.mark.parametrize(
    ("brightest", "hint"),
    [
        (4095, r" \(its brightest gray is 4095 of 65535; spread its grays from 0 to 65535\)"),
        (0, ""),
    ],
)
def test_no_head_in_a_2d_image_whose_grays_do_not_fill_its_bits(
    translator, tmp_path, brightest, hint
):
    y, x = np.mgrid[:181, :150]
    inside = ((y - 90) / 70) ** 2 + ((x - 74) / 55) ** 2 <= 1
    Image.fromarray(np.where(inside, brightest, 0).astype(np.uint16)).save(tmp_path / "slice.png")
    with pytest.raises(OutOfDomain, match=f"no head in it{hint}$"):
        translator.translate(tmp_path / "slice.png", to="mri", modality="CT")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(translator, ct, value):
    ct[0, 40, 40, 2] = value
    ct.meta["source"]["files"] = ["somewhere/head.nii.gz"]
    with pytest.raises(Unsupported, match="NaN or infinite") as refusal:
        translator.translate(ct, to="mri")
    assert refusal.value.path == "somewhere/head.nii.gz"


def test_values_whose_sum_is_too_large_are_still_numbers(translator, mr):
    huge = mr * 1e35
    assert not torch.isfinite(huge.as_tensor().sum())
    assert translator.translate(huge, to="ct").shape == mr.shape


def test_a_grid_that_cannot_be_cut_names_its_file(translator):
    shape = (20, 100, 100)
    scan = head_ct(shape, centered(np.diag([7.0, 2.0, 2.0]), shape))
    scan.meta["source"]["files"] = ["sagittal.nii"]
    with pytest.raises(Unsupported, match=r"sagittal\.nii: acquired in another plane"):
        translator.translate(scan, to="mri")


@pytest.mark.parametrize("shape", [(3, 20, 20, 4), (20, 20, 4), (1, 1, 20, 20, 4), (1, 0, 20, 4)])
def test_what_is_no_single_scan(translator, shape):
    with pytest.raises(Unsupported, match="no single scan"):
        translator.translate(MetaTensor(torch.zeros(shape)), to="mri", modality="CT")


@pytest.mark.parametrize("wrong", [7, [], None])
def test_what_is_no_image(translator, wrong):
    with pytest.raises(TypeError, match="is no scan; give a path, MetaTensor, nibabel"):
        translator.translate(wrong, to="mri")


def test_an_image_made_in_memory_is_guessed(translator, ct):
    bare = MetaTensor(ct.as_tensor(), affine=ct.affine)
    made = translator.translate(bare, to="mri")
    assert made.meta["source"]["format"] == "array"
    assert made.meta["source"]["modality_basis"].startswith("guess")
    assert torch.equal(made, translator.translate(ct, to="mri"))
    assert "source" not in bare.meta


@pytest.mark.parametrize("dtype", [torch.int16, torch.float64])
def test_other_number_types(translator, ct, dtype):
    whole = ct.round()
    expected = translator.translate(whole, to="mri")
    assert torch.equal(translator.translate(whole.to(dtype), to="mri"), expected)


def test_gradients_are_not_asked_for(translator, ct):
    assert not translator.translate(ct.requires_grad_(True), to="mri").requires_grad


def test_the_images_metadata_survives(translator, ct):
    ct.meta["filename_or_obj"] = "head.nii.gz"
    ct.applied_operations.append({"class": "Made"})
    made = translator.translate(ct, to="mri")
    assert made.meta["filename_or_obj"] == "head.nii.gz"
    assert made.applied_operations == ct.applied_operations
    assert "synthesis" not in ct.meta
    assert "synthesis" not in ct.meta["source"]


def nifti(ct, sform=2, qform=1, kind=nib.Nifti1Image):
    scan = kind(ct.as_tensor()[0].numpy().astype(np.int16), None)
    scan.set_sform(ct.affine.numpy(), sform)
    rigid = np.diag([2.0, 2.0, 25.0, 1.0])
    scan.set_qform(rigid, qform)
    return scan


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (2, 1), (4, 3), (0, 1)])
def test_nibabel_in_nibabel_out(translator, ct, sform, qform, kind):
    scan = nifti(ct, sform, qform, kind)
    made = translator.translate(scan, to="mri")
    assert isinstance(made, kind)
    assert made.shape == scan.shape
    assert made.get_data_dtype() == np.int16
    np.testing.assert_array_equal(made.affine, scan.affine)
    for name in ("sform_code", "qform_code"):
        assert made.header[name] == scan.header[name]
    np.testing.assert_array_equal(made.header.get_qform(), scan.header.get_qform())
    assert b"SYNTHETIC" in bytes(made.header["descrip"])
    assert 0 <= np.asarray(made.dataobj).min() <= np.asarray(made.dataobj).max() <= 4095


def test_a_path(translator, ct, tmp_path):
    path = tmp_path / "head.nii.gz"
    nib.save(nifti(ct), path)
    made = translator.translate(path, to="mri")
    assert made.meta["source"]["files"] == [str(path)]
    from_memory = translator.translate(nib.load(path), to="mri")
    np.testing.assert_array_equal(np.asarray(from_memory.dataobj), made.as_tensor()[0])
    assert torch.equal(translator.translate(str(path), to="mri"), made)


def test_a_path_that_is_not_there(translator, tmp_path):
    with pytest.raises(InputMissing):
        translator.translate(tmp_path / "none.nii.gz", to="mri")


def test_slices_go_straight_through(translator):
    slices = torch.rand(3, 1, 256, 256) * 2 - 1
    made = translator.translate_slices(slices, to="ct")
    with torch.inference_mode():
        expected = translator.bundle.generator("ct").network(slices)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    assert not made.is_inference()
    assert translator.translate_slices(slices[:0], to="ct").shape == (0, 1, 256, 256)


def test_slices_from_inference_mode_are_taken(translator):
    with torch.inference_mode():
        slices = torch.rand(1, 1, 256, 256)
    made = translator.translate_slices(slices, to="ct")
    made += 1  # an ordinary tensor


def test_a_model_of_one_direction(tmp_path, ct, mr):
    half = Translator.load(tiny_bundle(tmp_path / "half", tiny_networks(("mri",))), device="cpu")
    assert half.translate(ct, to="mri").shape == ct.shape
    with pytest.raises(ModelUnusable, match="makes no ct"):
        half.translate(mr, to="ct")


def test_no_model(tmp_path):
    with pytest.raises(ModelUnusable, match="no bundle here"):
        Translator.load(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "tpu"},
        {"device": "cuda:77"},
        {"device": "meta"},
    ],
    ids=str,
)
def test_no_such_device(bundle_folder, wrong):
    with pytest.raises(DeviceUnusable):
        Translator.load(bundle_folder, **wrong)


@pytest.mark.parametrize("wrong", [{"precision": "float8"}, {"batch_size": 0}], ids=str)
def test_an_option_that_cannot_be(bundle_folder, wrong):
    with pytest.raises(InvalidOption):
        Translator.load(bundle_folder, **wrong)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_array_with_an_affine_is_translated_as_its_image(translator, ct, kind):
    expected = translator.translate(ct, to="mri", modality="CT")
    array = kind(ct.as_tensor().numpy())
    made = translator.translate(array, to="mri", affine=ct.affine.numpy(), modality="CT")
    assert torch.equal(made.as_tensor(), expected.as_tensor())
    assert torch.equal(made.affine, expected.affine)


def test_it_survives_a_worker(translator, ct):
    copied = pickle.loads(pickle.dumps(translator))
    assert torch.equal(copied.translate(ct, to="mri"), translator.translate(ct, to="mri"))


def test_threads_share_one_translator(translator, ct, mr):
    expected = {"mri": translator.translate(ct, to="mri"), "ct": translator.translate(mr, to="ct")}
    made: list[tuple[str, MetaTensor]] = []

    def work(scan, to):
        made.append((to, translator.translate(scan, to=to)))

    jobs = [threading.Thread(target=work, args=job) for job in [(ct, "mri"), (mr, "ct")] * 2]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(made) == 4
    assert all(torch.equal(result, expected[to]) for to, result in made)


def test_the_networks_are_left_as_they_were(translator, ct):
    before = {k: v.clone() for k, v in translator.networks["mri"].state_dict().items()}
    translator.translate(ct, to="mri")
    after = translator.networks["mri"].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.is_grad_enabled()
