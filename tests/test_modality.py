"""One modality type: how it is named, and what follows from it."""

from __future__ import annotations

import json

import pytest

from medtranslate.errors import InvalidOption
from medtranslate.modality import TARGETS, Modality


@pytest.mark.parametrize("text", ["CT", "ct", "Ct", Modality.CT])
def test_ct_is_named_in_any_case(text: str) -> None:
    assert Modality.parse(text) is Modality.CT


@pytest.mark.parametrize("text", ["MR", "mr", "MRI", "mri", "Mri", Modality.MR])
def test_mr_is_named_by_its_code_or_as_a_user_says_it(text: str) -> None:
    assert Modality.parse(text) is Modality.MR


@pytest.mark.parametrize("text", ["pet", "", "C T", None])
def test_anything_else_is_refused_with_the_name_of_the_value(text: str) -> None:
    with pytest.raises(InvalidOption, match="to must be one of ct, mri") as caught:
        Modality.parse(text, "to")

    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2


def test_a_modality_equals_its_code_in_metadata() -> None:
    assert {"modality": Modality.CT} == {"modality": "CT"}
    assert json.dumps(Modality.MR) == '"MR"'
    assert type(Modality.MR.value) is str


def test_what_follows_from_a_modality() -> None:
    assert Modality.CT.other is Modality.MR
    assert Modality.MR.other is Modality.CT
    assert [modality.target for modality in Modality] == ["ct", "mri"]
    assert Modality.CT.direction == "mri_to_ct"
    assert Modality.MR.direction == "ct_to_mri"
    assert Modality.CT.unit == "HU"
    assert Modality.MR.unit == "arbitrary units"
    assert sorted(TARGETS) == sorted(modality.target for modality in Modality)
