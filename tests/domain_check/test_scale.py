from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.domain_check.scale import HIGHEST, RATES, Scale

GENUINE = torch.linspace(0, 1, 1001)[:, None]
SCALE = Scale.measure(GENUINE)


def test_a_score_is_the_order_of_the_false_alarm_rate() -> None:
    values = torch.tensor([[0.5], [0.8], [0.9], [0.98]])

    scores = SCALE.score(values)[:, 0]

    expected = [0.301, 0.699, 1.0, 1.699]  # one in 2, in 5, in 10, in 50
    assert scores.tolist() == pytest.approx(expected, abs=0.02)


def test_beyond_what_was_measured_it_goes_on_evenly() -> None:
    first, second, third = SCALE.score(torch.tensor([[1.1], [1.2], [1.3]]))[:, 0]

    assert second - first == pytest.approx(float(third - second), rel=1e-4)
    assert SCALE.score(torch.tensor([[1e6]])).item() == HIGHEST
    assert SCALE.score(torch.tensor([[-1e6]])).item() == 0


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_odder_the_higher(one: float, other: float) -> None:
    low, high = sorted((one, other))
    scores = SCALE.score(torch.tensor([[low], [high]]))[:, 0]

    assert scores[0] <= scores[1]


def test_values_that_coincide_still_make_a_scale() -> None:
    scale = Scale.measure(torch.zeros(50, 2))

    assert scale.knots.shape == (2, len(RATES))
    assert scale.score(torch.tensor([[0.0, 1.0]])).isfinite().all()
