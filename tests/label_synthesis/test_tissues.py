"""The table of tissues."""

from __future__ import annotations

import pytest
import torch

from medtranslate.errors import InputMissing, Unreadable
from medtranslate.label_synthesis import TissueTable
from medtranslate.label_synthesis.tissues import TABLE


def test_a_label_becomes_its_tissue_on_both_sides_of_the_brain(table):
    classes = table.classes(torch.tensor([0, 2, 41, 3, 42, 515]))

    names = [table.tissues[place].name for place in classes.tolist()]
    assert names == ["air", "white_matter", "white_matter", "cortex", "cortex", "compact_bone"]


def test_labels_without_a_tissue_are_named(table):
    with pytest.raises(ValueError, match="labels without a tissue: -1, 999"):
        table.classes(torch.tensor([2, 999, -1]))


def test_every_tissue_has_a_signal_for_every_contrast(table):
    assert all(len(tissue.mr) == len(table.contrasts) for tissue in table.tissues)


def test_a_table_that_is_not_there_is_missing_input(tmp_path):
    with pytest.raises(InputMissing):
        TissueTable.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("labels: [24]", "labels: [24, 3]", r"csf: labels \[3\] are taken"),
        ("hu: [32, 40]", "hu: [40, 32]", "white_matter: HU from 40.0 to 32.0"),
        ("beside: ventricle", "beside: cyst", "csf: 'cyst' does not stand above it"),
        ("hu: [32, 40]", "hu: [32, 40]\n    sound: loud", "unknown keys"),
        ("[T1, T1C, T2, FLAIR, PD]", "[T1, T2]", "air: 5 signals for 2 contrasts"),
        ("tissues:", "tissue:", "no table of tissues"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(tmp_path, before, after, fault):
    text = TABLE.read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "table.yaml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")

    with pytest.raises(Unreadable, match=fault):
        TissueTable.read(path)
