"""What an installed copy carries: recipes and weights, however it was built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from medtranslate.errors import InputMissing
from medtranslate.files import shipped

ROOT = Path(__file__).resolve().parents[1]
MODELS = "bundles/brain_ct_mri/models"
HISTORY = "bundles/history"
NOT_IN_A_WHEEL = (HISTORY, "bundles/model_zoo/")
WEIGHTS = ["placeholder.safetensors", "generator_ct_to_mri.safetensors"]
WHEEL_LIMIT = 100e6  # bytes; PyPI's own default limit


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout with small made weights in place of the real ones, if it has any."""
    tree = tmp_path_factory.mktemp("packaging") / "tree"
    tree.mkdir()
    unwanted = shutil.ignore_patterns("*.safetensors", "__pycache__")
    for folder in ("medtranslate", "transforms", "bundles"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=unwanted)
    for file in (".gitignore", "LICENSE", "README.md", "hatch_build.py", "pyproject.toml"):
        shutil.copy(ROOT / file, tree / file)
    (tree / MODELS).mkdir(parents=True, exist_ok=True)
    for weights in WEIGHTS:
        (tree / MODELS / weights).write_bytes(b"made weights")
    return tree


@dataclass(frozen=True)
class Built:
    """A wheel straight from the tree, and an sdist with the wheel made from it."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(tree: Path, out: Path, *kinds: str) -> Path:
    run("-m", "build", "--no-isolation", "--skip-dependency-check", "-o", out, *kinds, tree)
    return out


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    direct = build(tree, tmp_path_factory.mktemp("direct"), "--wheel")
    through = build(tree, tmp_path_factory.mktemp("through"))
    return Built(
        wheel=next(direct.glob("*.whl")),
        sdist=next(through.glob("*.tar.gz")),
        wheel_of_sdist=next(through.glob("*.whl")),
    )


def files_below(folder: Path) -> set[str]:
    """Paths relative to the folder's parent, as they are named in an archive."""
    return {
        str(file.relative_to(folder.parent))
        for file in folder.rglob("*")
        if file.is_file() and file.name != ".keep"
    }


def shipped_files(tree: Path) -> set[str]:
    files = files_below(tree / "transforms") | files_below(tree / "bundles")
    return {name for name in files if not name.startswith(NOT_IN_A_WHEEL)}


@pytest.mark.parametrize("which", ["wheel", "wheel_of_sdist"])
def test_a_wheel_carries_every_recipe_and_weight_inside_the_package(
    built: Built, tree: Path, which: str
) -> None:
    names = set(zipfile.ZipFile(getattr(built, which)).namelist())

    assert {f"medtranslate/data/{name}" for name in shipped_files(tree)} <= names
    assert {f"medtranslate/data/{MODELS}/{name}" for name in WEIGHTS} <= names
    assert "medtranslate/py.typed" in names
    for package in ("bundle", "html"):
        for template in (tree / f"medtranslate/{package}/templates").iterdir():
            assert f"medtranslate/{package}/templates/{template.name}" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"medtranslate"}


def test_the_history_is_in_the_sdist_but_in_no_wheel(built: Built) -> None:
    top = built.sdist.name.removesuffix(".tar.gz")
    with tarfile.open(built.sdist) as sdist:
        names = set(sdist.getnames())

    assert f"{top}/{HISTORY}/brain_ct_mri/README.md" in names
    for wheel in (built.wheel, built.wheel_of_sdist):
        inside = zipfile.ZipFile(wheel).namelist()
        assert [name for name in inside if "/history/" in name] == []


def installed_home(source: list[str | Path], site: Path, folder: Path) -> Path:
    """Install into an empty site folder; ask that copy, with nothing else in sight."""
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation",
        "--disable-pip-version-check", "--target", site, *source)  # fmt: skip
    ask = (
        f"import site; site.addsitedir({str(site)!r});"
        f"from medtranslate.files import shipped; print(shipped({MODELS!r}).parents[2])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ask], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.parametrize("which", ["wheel", "wheel_of_sdist"])
def test_an_installed_wheel_finds_its_own_copy(
    built: Built, tree: Path, tmp_path: Path, which: str
) -> None:
    site = tmp_path / "site"

    home = installed_home([getattr(built, which)], site, folder=tree)

    assert home == site / "medtranslate" / "data"
    assert files_below(home / "transforms") | files_below(home / "bundles") == shipped_files(tree)


def test_an_editable_install_finds_the_checkout_and_copies_nothing(
    tree: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"

    home = installed_home(["--editable", tree], site, folder=tmp_path)

    assert home == tree
    assert not (site / "medtranslate").exists()


def test_the_wheel_of_this_checkout_stays_under_the_limit(tmp_path: Path) -> None:
    wheel = next(build(ROOT, tmp_path, "--wheel").glob("*.whl"))

    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"medtranslate/data/{name}" for name in shipped_files(ROOT)} <= names
    assert wheel.stat().st_size < WHEEL_LIMIT


def test_no_ignore_rule_matches_weights() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    asked = [f"{MODELS}/{name}" for name in (*WEIGHTS, "model.safetensors", "best.safetensors")]

    # --no-index: a rule that matches is a fault even where the file was added by force.
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *asked], capture_output=True, text=True, cwd=ROOT
    )

    assert (done.returncode, done.stdout) == (1, "")


def test_what_is_not_shipped_is_refused_by_name() -> None:
    with pytest.raises(InputMissing, match="bundles/no_such_bundle: medtranslate ships no such"):
        shipped("bundles/no_such_bundle")
