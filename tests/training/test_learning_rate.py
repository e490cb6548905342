"""The learning rate and the moving average, number by number."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from udc_robust.training.learning_rate import learning_rate, moving_average


def test_the_rate_rises_in_equal_steps_and_falls_along_a_half_cosine() -> None:
    config = SimpleNamespace(lr=2.0, warmup=10, steps=110)
    assert [learning_rate(step, config) for step in range(10)] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert learning_rate(10, config) == pytest.approx(2.0)
    assert learning_rate(60, config) == pytest.approx(2 * (0.01 + 0.99 / 2))
    assert learning_rate(85, config) == pytest.approx(2 * (0.01 + 0.99 * (1 + math.cos(0.75 * math.pi)) / 2))
    assert learning_rate(110, config) == pytest.approx(0.02)


@pytest.mark.parametrize("steps", [1, 7])
def test_a_training_may_have_no_warmup_or_nothing_else(steps) -> None:
    assert learning_rate(0, SimpleNamespace(lr=1.0, warmup=0, steps=steps)) == pytest.approx(1.0)
    assert learning_rate(steps - 1, SimpleNamespace(lr=1.0, warmup=steps, steps=steps)) == pytest.approx(1.0)


@pytest.mark.parametrize("count, decay", [(0, 0.1), (1, 2 / 11), (90, 0.91), (100_000, 0.95)])
def test_the_average_forgets_its_start_faster_at_first(count, decay) -> None:
    averaged, current = [torch.tensor([1.0, 2.0])], [torch.tensor([5.0, 0.0])]
    moving_average(0.95)(averaged, current, torch.tensor(count))
    assert averaged[0].tolist() == pytest.approx([decay * 1 + (1 - decay) * 5, decay * 2])
