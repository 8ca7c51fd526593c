"""What is kept: JSON, CSV and a page, all or none; and the table on the terminal."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from medtranslate.errors import OutputExists, OutputFailed
from medtranslate.evaluation.evaluated_model import Candidate, Cost
from medtranslate.evaluation.evaluator import Evaluator
from medtranslate.evaluation.report import write_report
from medtranslate.evaluation.results import RealData
from medtranslate.evaluation.table import grids, show

MADE = Candidate("made <b>", lambda x, to: -x, version="1.0", costs={"mri": Cost(54_413_000, 11.9)})


@pytest.fixture(scope="module")
def evaluation(ct, mri, new_extractor):
    return Evaluator([MADE], RealData(ct, mri, paired=True), new_extractor(), images=2).run()


@pytest.mark.usefixtures("plots_undrawn")
def test_the_json_holds_everything_and_is_strict(evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "out")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (tmp_path / "out" / "evaluation.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found["format"] == 2
    assert found["seed"] == 2020
    assert found["protocol"]["name"] == "published"
    assert found["extractor"]["sha256"] == "0" * 64
    assert {s["sha256"] for s in found["sets"]} == {s.sha256 for s in evaluation.sets}
    first = found["directions"][0]
    assert first["distances"]["fid"] == evaluation.directions[0].distances.fid
    assert first["paper_fid"] == 95.19
    assert first["paired"]["scale"] == {"unit": "gray", "low": 0.0, "high": 255.0}
    assert len(first["cases"]) == 8
    assert set(found["machine"]) >= {"device", "torch", "medtranslate", "torch-fidelity"}
    assert "galleries" not in found


@pytest.mark.usefixtures("plots_undrawn")
def test_the_csv_has_a_row_a_case(evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "out")
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    expected = evaluation.directions[0].cases[3]
    assert rows[3]["name"] == expected.name
    assert float(rows[3]["cycle_error"]) == expected.cycle_error
    assert float(rows[3]["mae"]) == expected.paired.mae


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "out")
    text = (tmp_path / "out" / "evaluation.html").read_text()
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert "made &lt;b&gt;" in text and "made <b>" not in text
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 2 + 8  # two plots, four galleries a direction
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "://" not in re.sub(r'base64,[^"]*', "", text)
    assert "Not for diagnosis" in text


def test_the_terminal_shows_the_papers_figures_in_their_column(evaluation) -> None:
    console = Console(file=io.StringIO(), width=250)
    show(evaluation, console)
    text = console.file.getvalue()
    assert "FID, paper" in text and "95.19" in text
    assert "no translation" in text
    assert "under 500" in text
    headers = grids(evaluation)[0].headers
    assert grids(evaluation)[0].rows[0][headers.index("FID, paper")] == "95.19"
    assert grids(evaluation)[0].rows[1][headers.index("FID, paper")] == "–"
    assert all(len(row) == len(grid.headers) for grid in grids(evaluation) for row in grid.rows)


@pytest.mark.usefixtures("plots_undrawn")
def test_an_existing_report_is_kept_unless_asked(evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "out")
    with pytest.raises(OutputExists):
        write_report(evaluation, tmp_path / "out")
    assert len(write_report(evaluation, tmp_path / "out", overwrite=True)) == 3


@pytest.mark.usefixtures("plots_undrawn")
def test_a_folder_with_other_things_is_never_replaced(evaluation, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputFailed, match=r"other things than a report, such as 'thesis\.tex'"):
        write_report(evaluation, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.usefixtures("plots_undrawn")
def test_a_full_disk_leaves_nothing(
    evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *args: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputFailed, match="No space left on device"):
        write_report(evaluation, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
