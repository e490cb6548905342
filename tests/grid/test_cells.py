"""The grid: budgets as people write them, and batches that resuming can rely on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.grid.budget import eps_text
from udc_robust.grid.cells import batches, cells
from udc_robust.tasks.restoration_schema import RestorationConfig


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
    config = check_config(values, RestorationConfig, "test")
    keys = [cell.key for cell in cells(config.attacks, config.eps, config.defences[0])]
    assert keys == ["pgd-linf-1_255", "pgd-linf-2_255", "fgsm-linf-8_255", "cw-l2-free"]


def test_odd_names_stay_inside_their_folder() -> None:
    values = {"restorers": ["r"], "attacks": [{"method": "pgd", "name": "../up", "eps": "1/255"}]}
    config = check_config(values, RestorationConfig, "test")
    (cell,) = cells(config.attacks, config.eps, config.defences[0])
    assert "/" not in cell.key


def _grid(attacks, defence="blur", **known) -> list[str]:
    values = {"restorers": ["r"], "eps": ["4/255"], "defences": ["none", defence], "attacks": attacks}
    config = check_config(values, RestorationConfig, "test")
    return [cell.label for cell in cells(config.attacks, config.eps, config.defences[1], **known)]


def test_access_is_what_a_gradient_attack_knows_of_a_defence() -> None:
    access = ["blind", "bpda", "surrogate", "adaptive"]
    attacks = ["noise", {"method": "pgd", "access": access}, "square"]
    assert _grid(attacks, gradients=("bpda", "adaptive")) == [
        "noise",
        "pgd blind",
        "pgd bpda",
        "pgd adaptive",
        "square",
    ]
    assert _grid(["pgd"], gradients=("bpda", "adaptive")) == ["pgd adaptive"]
    assert _grid(attacks, defence={"kind": "none", "name": "bare"}) == ["noise", "pgd", "square"]


def test_seeds_of_a_deterministic_defence_cannot_be_known() -> None:
    attacks = [{"method": "pgd", "known_seed": True}]
    assert (
        _grid(attacks, gradients=("adaptive",), random=True) == ["pgd adaptive"]
        and _grid(attacks, gradients=("adaptive",)) == []
    )


def test_an_attack_may_be_meant_for_some_defences_only() -> None:
    attacks = [{"method": "pgd", "defences": "none"}, "square"]
    assert _grid(attacks, gradients=("adaptive",)) == ["square"]


def test_accesses_start_from_the_same_points() -> None:
    values = {"restorers": ["r"], "eps": ["4/255"], "attacks": [{"method": "pgd", "access": ["blind", "bpda"]}]}
    config = check_config({**values, "defences": ["none", "blur"]}, RestorationConfig, "test")
    bare, blind, bpda = (cell for d in config.defences for cell in cells(config.attacks, config.eps, d, ("bpda",)))
    assert bare.seed_key == blind.seed_key == bpda.seed_key and len({bare.key, blind.key, bpda.key}) == 3


@pytest.mark.parametrize(
    "values, message",
    [
        ({"defences": ["blurr"]}, "unknown kind of defence 'blurr': did you mean 'blur'"),
        ({"defences": [{"kind": "blur", "sigm": 1}]}, "sigm"),
        ({"defences": ["none", "none"]}, "two defence blocks"),
        ({"defences": [{"kind": "blur", "match": "purifier"}], "validation": {}}, "unknown match of defence 'blur'"),
        ({"defences": ["jpeg", {"kind": "blur", "match": "jpeg"}]}, "validation"),
        ({"defences": [{"kind": "blur", "restorers": ["s"]}]}, "unknown restorer of defence 'blur'"),
        ({"attacks": [{"method": "pgd", "defences": "blur"}]}, "unknown defence of attack 'pgd'"),
        ({"attacks": [{"method": "pgd", "access": "adaptve"}]}, "access"),
    ],
)
def test_misspelt_grids(values, message) -> None:
    with pytest.raises(UserError, match=message):
        check_config({"restorers": ["r"], "attacks": ["pgd"], **values}, RestorationConfig, "test")
