"""Limits that all verbs share."""

from __future__ import annotations

import math

import psutil
import pytest
import torch

from udc_robust.config_file import Number, Strict, check_config
from udc_robust.errors import UserError
from udc_robust.limits import Count, CountOrNone, Device, Seed, Side, require_memory, usable_device


class Block(Strict):
    steps: Count = 1
    warmup: CountOrNone = 0
    size: Side = 1
    seed: Seed = 0
    device: Device = "cpu"
    lr: Number = 0.1


@pytest.mark.parametrize(
    "key, good, bad",
    [
        ("steps", [1, 5.0, 1_000_000], [0, -1, 1.5, 1_000_001, [1, 2], None, math.inf, True, "many"]),
        ("warmup", [0, 1_000_000], [-1, math.nan]),
        ("size", [1, 16_384], [0, 200_000]),
        ("seed", [0, 2**63 - 1], [-1, 2**63, 0.5]),
        ("device", ["cpu", "cuda", "cuda:12"], ["meta", "mps", "cuda:x", "cuda:-1", "cpu:0", "", 5]),
        ("lr", [1e-3, "4/255"], [math.inf, math.nan, "nan", "9" * 5000, "1/0", "(" * 500]),
    ],
)
def test_values_within_and_beyond(key, good, bad) -> None:
    for value in good:
        check_config({key: value}, Block, "it")
    for value in bad:
        with pytest.raises(UserError, match=key):
            check_config({key: value}, Block, "it")


def test_memory_that_is_not_there_is_told_with_both_figures(monkeypatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2 * 2**30}))
    require_memory(2**29, "it")
    with pytest.raises(UserError, match=r"^it needs at least 4\.0 GiB of memory; 2\.0 are free$"):
        require_memory(2**30, "it")


def test_a_device_that_is_not_here(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [usable_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(UserError, match="has 2 CUDA GPUs"):
        usable_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA GPU"):
        usable_device("cuda")
    with pytest.raises(UserError, match="unknown device 'meta'"):
        usable_device("meta")
