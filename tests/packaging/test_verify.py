"""verify, refresh, export: what is checked, what is kept, and that nothing foreign is run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_bundles import all_hu_bundle, shipped_recipes, tiny_networks

from medtranslate.bundle import Bundle, Networks, attach, default_bundle, save_bundle
from medtranslate.bundle.metadata import Facts, check_metadata
from medtranslate.bundle.save import content_of, facts_of, generated_files, refresh
from medtranslate.errors import InputMissing, InvalidOption, ModelUnusable, OutputExists
from medtranslate.networks import GrayThroughRGB, ResNet9
from medtranslate.packaging.export import ExportOptions, RunPackager, export_bundle, refresh_bundle
from medtranslate.packaging.reference import compare_reference, write_reference
from medtranslate.packaging.verify import Check, verify

SCHEMA = "meta_schema_20240725.json"


@pytest.fixture
def folder(complete, tmp_path) -> Path:
    """A complete bundle that may be changed."""
    return Path(shutil.copytree(complete, tmp_path / "model"))


@pytest.fixture
def replaced(folder) -> Callable[[str, str, str], Path]:
    """Replace text in one of its files."""

    def replace_text(name: str, old: str, new: str) -> Path:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return replace_text


def results(folder: Path, **options: bool) -> dict[str, str]:
    return {check.name: check.result for check in verify(folder, **options)}


def checked(folder: Path, name: str) -> Check:
    """Return one check; those after it are not made."""
    return next(check for check in verify(folder) if check.name == name)


def detail(folder: Path, name: str) -> str:
    return checked(folder, name).detail


def test_a_whole_bundle(complete) -> None:
    assert results(complete) == {
        "networks, recipes and weights": "ok",
        "metadata": "ok",
        "network in and out": "ok",
        "learned checks": "not checked",
        "reference": "ok",
        "state dicts for the Model Zoo": "not checked",
        "workflows": "ok",
    }


def test_trusted_code_is_run_and_compared(complete) -> None:
    checks = {check.name: check for check in verify(complete, trust_code=True)}
    ran = checks["inference.yaml, run by MONAI"]
    assert (ran.result, ran.detail) == ("ok", "properties complete; mri equal to the last voxel")


def test_foreign_code_is_named_and_not_run(replaced, tmp_path) -> None:
    mark = tmp_path / "ran"
    code = f"- $open({str(mark)!r}, 'w').close()\n"
    folder = replaced("configs/inference.yaml", "run:\n", f"initialize:\n{code}run:\n")
    (folder / "scripts").mkdir()
    (folder / "scripts/extra.py").write_text("raise SystemExit\n")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs/figures.json").write_text('{"fid": [70.7], "unit": "%"}')
    (folder / "docs/object.json").write_text('{"a": [{"_target_": "os.abort"}]}')

    check = checked(folder, "workflows")
    assert check.result == "not checked"
    assert check.detail.startswith(
        "configs/inference.yaml, docs/object.json, scripts/extra.py: not as medtranslate writes"
    )
    assert not mark.exists()

    assert results(folder, trust_code=True)["inference.yaml, run by MONAI"] == "ok"
    assert mark.exists()


def test_a_workflow_that_fails_is_a_fault(replaced) -> None:
    folder = replaced("configs/inference.yaml", "$@datalist.check()", "$1 / 0")
    (check,) = [c for c in verify(folder, trust_code=True) if "MONAI" in c.name and "run" in c.name]
    assert check.result == "fault" and "inference.yaml: MONAI cannot run it" in check.detail


def test_a_workflow_that_lacks_a_property_is_a_fault(replaced) -> None:
    folder = replaced("configs/inference.yaml", "inferer:\n  _target_", "other:\n  _target_")
    (check,) = [c for c in verify(folder, trust_code=True) if "MONAI" in c.name and "run" in c.name]
    assert check.result == "fault"


def test_other_weights_are_seen_though_their_hash_is_right(folder) -> None:
    """Somebody wrote new weights and hashes, and left the reference as it was."""
    networks = tiny_networks()
    for weights in networks.generators["mri"].parameters():
        weights.data.mul_(1.5)
    new = save_bundle(folder.parent / "new", networks, shipped_recipes(), name="n", version="1")
    shutil.copy(folder / "configs/reference.json", new / "configs/reference.json")

    (mri, ct) = compare_reference(Bundle.load(new))
    assert not mri.agrees and mri.worst > mri.tolerance == pytest.approx(4095 / 255, abs=1e-3)
    assert ct.equal and ct.tolerance == pytest.approx(119.98 / 255, abs=1e-2)
    assert checked(new, "reference").result == "fault"


def test_rounding_within_a_gray_level_is_not_a_fault(folder) -> None:
    path = folder / "configs/reference.json"
    content = json.loads(path.read_text())
    content["targets"]["ct"]["sha256"] = "0" * 64
    content["targets"]["ct"]["blocks"][0][0][0] += 0.3
    path.write_text(json.dumps(content))
    check = checked(folder, "reference")
    assert check.result == "ok"
    assert "ct within 0.3 of the stored means (tolerance 0.47" in check.detail


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"version": "0.7"', '"version": "0.8"', "line 3: version: is not model.yaml's, 0.7"),
        ('"task"', '"tusk"', "line 1: task: is missing"),
        ('"authors": "not stated"', '"authors": 7', "line 8: authors: must be text"),
        ('"0.7": "first version"', '"0.6": ""', "changelog: does not name version 0.7"),
        ('"dtype": "float32"', '"dtype": "uint8"', "image.dtype: 'uint8' is not 'float32'"),
        ('"num_channels": 1', '"num_channels": 3', "num_channels: 3 is not 1"),
        ('"ct_to_mri_data_format"', '"other_data_format"', "ct_to_mri_data_format: is missing"),
        ("{", "[", "not readable as YAML"),
    ],
)
def test_metadata_is_held_to_rules(replaced, old, new, said) -> None:
    folder = replaced("configs/metadata.json", old, new)
    with pytest.raises(ModelUnusable) as refused:
        check_metadata(folder, content_of(folder))
    assert said in str(refused.value)
    assert "metadata.json" in str(refused.value)
    assert checked(folder, "metadata").result == "fault"


@pytest.mark.data
def test_the_official_schema_agrees(complete, shared_data) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((shared_data / "schema" / SCHEMA).read_text())
    for bundle in (complete, default_bundle()):
        jsonschema.validate(json.loads((bundle / "configs/metadata.json").read_text()), schema)


def without_versions(text: str) -> dict[str, object]:
    """Return metadata without the versions of the packages that they were written with."""
    versions = {"monai_version", "pytorch_version", "numpy_version", "required_packages_version"}
    return {key: value for key, value in json.loads(text).items() if key not in versions}


def test_the_shipped_bundle_is_what_save_bundle_writes() -> None:
    """Every generated file, from its model.yaml and the words in its metadata."""
    shipped = default_bundle()
    for place, text in generated_files(content_of(shipped), facts_of(shipped)).items():
        found = (shipped / place).read_text(encoding="utf-8")
        if place.suffix == ".json":
            assert without_versions(found) == without_versions(text), place
        else:
            assert found == text, place


def test_the_shipped_bundle_carries_all_that_it_should() -> None:
    shipped = default_bundle()
    for name in ("LICENSE", "docs/README.md", "configs/reference.json"):
        assert (shipped / name).is_file()
    settings = facts_of(shipped).training["settings"]
    assert settings["network"] == "compact" and settings["network_arguments"] == {"blocks": 9}
    for spec in content_of(shipped)["generators"].values():
        assert spec["network"]["width"] == 128 and spec["network"]["blocks"] == 9


def test_refresh_keeps_words_and_mends_the_rest(folder) -> None:
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    metadata |= {"authors": "Somebody", "monai_version": "0.1"}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    (folder / "configs/train.yaml").unlink()
    (folder / "docs/README.md").write_text("my card")

    refresh_bundle(folder, version="0.8", note="better words")

    made = json.loads((folder / "configs/metadata.json").read_text())
    assert (made["authors"], made["version"]) == ("Somebody", "0.8")
    assert made["changelog"] == {"0.7": "first version", "0.8": "better words"}
    assert made["monai_version"] != "0.1"
    assert (folder / "docs/README.md").read_text() == "my card"
    assert set(results(folder).values()) == {"ok", "not checked"}
    assert "0.8" in (folder / "configs/train.yaml").read_text()


def test_refresh_with_other_weights(folder) -> None:
    refresh(folder, facts=replace(facts_of(folder), eval_metrics={"kid": 0.1}, authors="Me"))
    networks = tiny_networks()
    for weights in networks.generators["mri"].parameters():
        weights.data.mul_(1.5)
    other = save_bundle(
        folder.parent / "other", networks, shipped_recipes(), name="other", version="3",
        facts=Facts(training={"steps": 12}),
    )  # fmt: skip

    assert refresh_bundle(folder, other) == ["its figures of evaluation were of other weights"]

    assert Bundle.load(folder).name == "tiny"
    facts = facts_of(folder)
    assert (facts.training, facts.eval_metrics, facts.authors) == ({"steps": 12}, {}, "Me")
    mine, its = (load_file(f / "models/ct_to_mri.safetensors") for f in (folder, other))
    assert all(torch.equal(mine[name], its[name]) for name in its)
    assert "fault" not in results(folder).values()


@pytest.mark.parametrize(("data", "kept"), [("a" * 64, True), ("b" * 64, False)])
def test_a_domain_check_stays_with_the_data_that_it_was_of(folder, data, kept) -> None:
    attach(folder, "domain", Bundle.load(default_bundle()).domain.read_bytes())
    refresh(folder, facts=replace(facts_of(folder), training={"data": "a" * 64}))
    other = save_bundle(
        folder.parent / "other", tiny_networks(), shipped_recipes(), name="other", version="3",
        facts=Facts(training={"data": data}),
    )  # fmt: skip

    gone = refresh_bundle(folder, other)

    assert (gone == []) is kept
    assert (Bundle.load(folder).domain is not None) is kept
    assert (folder / "configs/domain.safetensors").exists() is kept


RUNS = "$__import__('os').system('touch ran')"


def with_settings(**settings):
    return lambda content: content | {"training": {"settings": settings}}


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("model.yaml", lambda c: c | {"name": RUNS}),
        ("model.yaml", lambda c: c | {"version": f"  {RUNS}"}),
        ("model.yaml", lambda c: c | {"more": [{"deep": "%/etc/hostname"}]}),
        ("metadata.json", lambda c: c | {"description": RUNS}),
        ("metadata.json", with_settings(seed=RUNS)),
        ("metadata.json", with_settings(seed="@ct")),
        ("metadata.json", with_settings(seed=[RUNS])),
        ("metadata.json", with_settings(crop={"_target_": "os.system"})),
        ("metadata.json", with_settings(epochs=f"1\nrun: {RUNS}")),
        ("metadata.json", with_settings(**{"seed\nx": 1})),
    ],
)
def test_a_bundle_whose_names_or_settings_would_run_code_is_a_fault(folder, place, change) -> None:
    path = folder / "configs" / place
    path.write_text(json.dumps(change(yaml.safe_load(path.read_text()))))
    (folder / "configs/reference.json").unlink()  # to compare with it takes a second

    assert checked(folder, "workflows").result == "fault"
    with pytest.raises(ModelUnusable):
        generated_files(content_of(folder), facts_of(folder))


def test_a_field_of_a_template_is_not_searched_for_other_fields(folder) -> None:
    facts = replace(facts_of(folder), training={"settings": {"note": "{version}"}})
    content = content_of(folder) | {"version": f"1', evil: '{RUNS}"}
    text = generated_files(content, facts)[Path("configs/train.yaml")]
    assert yaml.safe_load(text)["settings"]["note"] == "{version}"


@pytest.mark.parametrize("name", [RUNS, "@x", "%x", " $x", "a\nb"])
def test_a_name_that_would_be_run_is_refused_before_any_work(name) -> None:
    with pytest.raises(InvalidOption, match="would be read as code"):
        ExportOptions(name=name)
    with pytest.raises(InvalidOption, match="would be read as code"):
        RunPackager(name)


def test_a_refresh_that_fails_leaves_the_bundle_as_it_was(folder) -> None:
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(InputMissing, match="no run, checkpoint or bundle"):
        refresh_bundle(folder, folder.parent / "nothing")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_the_zoos_layout(complete, tmp_path) -> None:
    license = tmp_path / "license.txt"
    license.write_text("Apache License\n")
    wanted = ExportOptions(to="ct", license=license, zoo=True, version="2.0")

    assert export_bundle(complete, tmp_path / "zoo", wanted) == []

    zoo = tmp_path / "zoo"
    assert (zoo / "LICENSE").read_text() == "Apache License\n"
    assert not (zoo / "discriminators").exists()
    served = torch.load(zoo / "models/model.pt", weights_only=True)
    bundle = Bundle.load(zoo)
    expected = bundle.generator("ct").network.state_dict()
    assert served.keys() == expected.keys()
    assert all(torch.equal(served[name], expected[name]) for name in expected)
    assert (zoo / "models/model_ct_to_mri.pt").is_file()
    assert "\nto: ct\n" in (zoo / "configs/inference.yaml").read_text()
    metadata = json.loads((zoo / "configs/metadata.json").read_text())
    assert metadata["network_data_format"] == metadata["mri_to_ct_data_format"]
    assert results(zoo) == {**dict.fromkeys(results(zoo), "ok"), "learned checks": "not checked"}

    torch.save({k: v + 1 for k, v in served.items()}, zoo / "models/model.pt")
    assert "holds other weights" in detail(zoo, "state dicts for the Model Zoo")


def test_a_pickle_is_not_opened(folder, tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Bomb(), folder / "models/model.pt")
    assert "is no plain state dict" in detail(folder, "state dicts for the Model Zoo")
    assert not (tmp_path / "ran").exists()


def test_the_zoo_asks_for_a_license(complete, tmp_path) -> None:
    with pytest.raises(ModelUnusable, match="has no LICENSE"):
        export_bundle(complete, tmp_path / "zoo", ExportOptions(zoo=True))
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_written_over(complete, folder) -> None:
    with pytest.raises(OutputExists):
        export_bundle(complete, folder, ExportOptions())


def test_an_imported_color_generator_has_no_train_yaml(tmp_path) -> None:
    inner = {"_target_": "medtranslate.networks.ResNet9", "in_channels": 3, "out_channels": 3,
             "width": 8, "blocks": 1}  # fmt: skip
    torch.manual_seed(0)
    network = GrayThroughRGB(ResNet9(3, 3, width=8, blocks=1))
    spec = {"_target_": "medtranslate.networks.GrayThroughRGB", "network": inner}
    bundle = save_bundle(
        tmp_path / "model", Networks({"mri": spec}, {"mri": network}), shipped_recipes(),
        name="imported", version="1",
    )  # fmt: skip
    write_reference(bundle)

    assert not (bundle / "configs/train.yaml").exists()
    assert "fault" not in results(bundle).values()
    assert content_of(bundle)["generators"]["mri"]["network"] == spec


def test_recipes_that_do_not_take_the_phantom_leave_no_reference(tmp_path) -> None:
    ct_only = [path for path in shipped_recipes() if path.name.startswith("ct")]
    bundle = save_bundle(tmp_path / "model", tiny_networks(), ct_only, name="x", version="1")
    write_reference(bundle)
    assert json.loads((bundle / "configs/reference.json").read_text())["targets"] == {}


def test_the_workflows_are_yaml_of_the_model(complete) -> None:
    for name in ("inference", "evaluate"):
        content = yaml.safe_load((complete / "configs" / f"{name}.yaml").read_text())
        assert content["to"] == "mri" and content["bundle_root"] == "."


def test_a_ct_of_all_hu_is_compared_in_its_window(tmp_path):
    """A gray level of the window; bone, 47 times as steep, would differ between machines."""
    folder = all_hu_bundle(tmp_path / "wide")
    write_reference(folder)
    stored = json.loads((folder / "configs/reference.json").read_text())["targets"]["ct"]
    blocks = np.array(stored["blocks"])
    assert stored["tolerance"] == round(120 / 255, 3)
    assert blocks.min() == -20 and blocks.max() <= 100
    assert all(each.agrees for each in compare_reference(Bundle.load(folder)))
