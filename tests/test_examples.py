"""The examples in docs/examples do what their pages say, where the other program is installed."""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from scan_fixtures import *  # noqa: F403

from medtranslate.cli.app import app
from medtranslate.cohort import ClusterSettings, load_cluster

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


def load(name: str) -> ModuleType:
    """Import an example by its file."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as pickle needs it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def options(tiny_bundle: Path) -> dict[str, Any]:
    return {"bundle": str(tiny_bundle), "device": "cpu"}


def unknown_options(text: str, command: str) -> set[str]:
    """Return the options of a shell command that a medtranslate command does not have."""
    known = {name for one in typer.main.get_command(app).commands[command].params
             for name in one.opts}  # fmt: skip
    return {word for word in shlex.split(text) if re.match(r"--?[a-z]", word)} - known


def test_a_nipype_node_converts_a_scan(ct: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    nipype = pytest.importorskip("nipype")
    interface = load("nipype_interface").ConvertScan(in_file=str(ct), to="mri", options=options)

    node = nipype.Node(interface, name="convert", base_dir=str(tmp_path / "work"))
    done = node.run().outputs

    assert Path(done.out_file) == tmp_path / "work" / "convert" / "scan_mri.nii.gz"
    assert Path(done.out_file).is_file() and done.domain and done.cycle_error > 0


def test_a_pydra_task_converts_a_scan(ct: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("pydra")
    task = load("pydra_task").convert_scan(
        in_file=str(ct), to="mri", options=options, cache_dir=tmp_path / "cache"
    )

    task()
    done = task.result().output

    assert Path(done.out_file).name == "scan_mri.nii.gz" and Path(done.out_file).is_file()
    assert (tmp_path / "cache") in Path(done.out_file).parents
    assert done.domain and not math.isnan(done.cycle_error)


@pytest.fixture
def mcp_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server of a folder."""
    pytest.importorskip("mcp.server.mcpserver")
    monkeypatch.setattr("sys.argv", ["mcp_server.py", str(tmp_path)])
    return load("mcp_server").server


def test_an_mcp_server_inspects_and_converts_what_lies_in_its_folders(
    mcp_server: Any, ct: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from mcp import Client

    elsewhere = tmp_path_factory.mktemp("elsewhere") / "scan.nii.gz"
    elsewhere.write_bytes(ct.read_bytes())
    (tmp_path / "link.nii.gz").symlink_to(elsewhere)
    (tmp_path / "head_mri.nii.gz").write_bytes(b"precious")

    async def talk() -> list[Any]:
        async with Client(mcp_server) as client:
            taken = {"to": "mri", "output": str(tmp_path / "head_mri.nii.gz")}
            return [
                await client.list_tools(),
                await client.call_tool("inspect", {"path": str(ct)}),
                await client.call_tool("inspect", {"path": str(elsewhere)}),
                await client.call_tool("inspect", {"path": str(tmp_path / "link.nii.gz")}),
                await client.call_tool("convert", {"path": str(ct), **taken}),
            ]

    tools, inspected, *refused = asyncio.run(talk())

    assert {tool.name for tool in tools.tools} == {"inspect", "convert"}
    assert not inspected.is_error and "nifti" in inspected.content[0].text
    assert [one.is_error for one in refused] == [True, True, True]
    assert "in none of the folders" in refused[1].content[0].text
    assert "exists already" in refused[2].content[0].text
    assert (tmp_path / "head_mri.nii.gz").read_bytes() == b"precious"


def test_a_snakemake_workflow_converts_a_folder(
    ct: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    pytest.importorskip("snakemake")
    more = f"--bundle {options['bundle']} --device cpu --no-cycle"
    config = [f"scans={tmp_path}", f"command={sys.executable} -m medtranslate", f"options={more}"]
    command = ["-m", "snakemake", "--snakefile", EXAMPLES / "Snakefile", "--cores", "1", "--quiet"]

    done = subprocess.run(
        [sys.executable, *map(str, command), "--config", *config],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "mri.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == [str(ct)] and rows[0]["domain"]
    report = json.loads((tmp_path / "results" / "scan_mri.json").read_text())
    assert report["conversions"][0]["status"] == "converted"


def test_the_shell_commands_of_workflows_have_options_that_exist() -> None:
    rule = re.search(r'convert \{input\}(.*?)"\n\n', (EXAMPLES / "Snakefile").read_text(), re.S)
    module = (EXAMPLES / "medtranslate.nf").read_text()
    process = re.search(r"medtranslate convert(.*?)\n\n", module, re.S)
    assert rule and process

    assert unknown_options(rule[1].replace('"', " "), "convert") == set()
    assert unknown_options(process[1].replace("\\\\\n", " "), "convert") == set()
    for ending in (".nii.gz", ".json", "_preview.png"):  # as convert names them
        assert f'path("${{prefix}}_${{to}}{ending}")' in module
    assert module.count("{") == module.count("}")


def test_the_cluster_file_is_valid() -> None:
    settings = load_cluster(EXAMPLES / "slurm.yaml")

    assert (settings.kind, settings.jobs, settings.walltime) == ("slurm", 8, "04:00:00")
    assert settings.model_fields_set == set(ClusterSettings.model_fields)  # a file shows all keys
