"""The grid: budgets as people write them, and batches that resuming can rely on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udc_robust.config import EvaluateConfig
from udc_robust.config_file import check_config
from udc_robust.evaluation.cells import batches, cells, eps_text


@pytest.mark.parametrize(
    "eps, text",
    [
        (4 / 255, "4/255"),
        (0.01568627, "4/255"),
        (0.5 / 255, "0.5/255"),
        (0.1, "0.1"),
        (0, "0"),
        (math.inf, "free"),
        (1.5, "1.5"),
    ],
)
def test_eps_is_written_as_people_do(eps, text) -> None:
    assert eps_text(eps) == text


@given(st.lists(st.sampled_from([(8, 8), (8, 9)]), max_size=20), st.integers(1, 4))
def test_batches_keep_the_order_and_hold_one_size(sizes, batch_size) -> None:
    found = list(batches(sizes, batch_size))
    assert [i for batch in found for i in batch] == list(range(len(sizes)))
    assert all(len(batch) <= batch_size and len({sizes[i] for i in batch}) == 1 for batch in found)


def test_cells_take_their_own_eps_or_the_runs() -> None:
    values = {
        "restorers": ["r"],
        "eps": ["1/255", "2/255"],
        "attacks": ["pgd", {"method": "fgsm", "eps": "8/255"}, {"method": "cw", "norm": "l2"}],
    }
    keys = [cell.key for cell in cells(check_config(values, EvaluateConfig, "test"))]
    assert keys == ["pgd-linf-1_255", "pgd-linf-2_255", "fgsm-linf-8_255", "cw-l2-free"]


def test_odd_names_stay_inside_their_folder() -> None:
    values = {"restorers": ["r"], "attacks": [{"method": "pgd", "name": "../up", "eps": "1/255"}]}
    (cell,) = cells(check_config(values, EvaluateConfig, "test"))
    assert "/" not in cell.key
