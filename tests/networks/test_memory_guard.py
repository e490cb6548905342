"""Networks that would not fit into memory are refused while they are built."""

from __future__ import annotations

import psutil
import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.networks.memory_guard import MemoryGuard
from udc_robust.restorers.zoo import build_network

OPTIONS = {"width": 8, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def test_it_changes_no_weight() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(50, 50)
    torch.manual_seed(0)
    with MemoryGuard("it"):
        guarded = torch.nn.Linear(50, 50)
    assert torch.equal(plain.weight, guarded.weight) and torch.equal(plain.bias, guarded.bias)


def test_it_counts_all_tensors_together(monkeypatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 4 * 1000}))
    with MemoryGuard("it"):
        torch.empty(900)
    with MemoryGuard("it"), torch.device("meta"):
        torch.empty(10**9)
    with pytest.raises(UserError, match="it needs at least"), MemoryGuard("it"):
        torch.empty(900)
        torch.zeros(10, 20)


def test_absurd_options() -> None:
    with pytest.raises(UserError, match=r"network 'NAFNet' with these options needs at least .* GiB"):
        build_network("NAFNet", {**OPTIONS, "width": 1_000_000})
    with pytest.raises(UserError, match="cannot be built with these options"):
        build_network("NAFNet", {**OPTIONS, "width": -1})
