"""Networks that would not fit into memory are refused while they are built."""

from __future__ import annotations

import psutil
import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.networks.memory_guard import MemoryGuard, within_memory
from udc_robust.restorers.zoo import build_network, find_network

OPTIONS = {"width": 8, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def test_a_rehearsal_changes_no_weight() -> None:
    torch.manual_seed(0)
    plain = find_network("NAFNet")(**OPTIONS).state_dict()
    torch.manual_seed(0)
    built = build_network("NAFNet", OPTIONS).state_dict()
    assert all(torch.equal(plain[name], built[name]) for name in plain)


def test_it_changes_no_weight() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(50, 50)
    torch.manual_seed(0)
    with MemoryGuard("it", "cpu"):
        guarded = torch.nn.Linear(50, 50)
    assert torch.equal(plain.weight, guarded.weight) and torch.equal(plain.bias, guarded.bias)


def test_it_counts_all_tensors_together(monkeypatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 4 * 1000}))
    with MemoryGuard("it", "cpu"):
        torch.empty(900)
    with MemoryGuard("it", "cpu"), torch.device("meta"):
        torch.empty(10**9)
    with pytest.raises(UserError, match="it needs at least"), MemoryGuard("it", "cpu"):
        torch.empty(900)
        torch.zeros(10, 20)


def test_too_many_weights_are_refused_before_one_is_drawn(monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, **options: drawn.append(tensor.device.type))
    build_network("NAFNet", OPTIONS)
    assert {"meta", "cpu"} == set(drawn)
    drawn.clear()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 4 * 2000}))
    with pytest.raises(UserError, match="needs at least"):
        build_network("NAFNet", OPTIONS)
    assert set(drawn) == {"meta"}


def test_code_of_the_user_is_called_once(tmp_path) -> None:
    code = "import torch\ndef make():\n    print('made', file=open('made.txt', 'a'))\n    return torch.nn.Identity()"
    (tmp_path / "mine.py").write_text(code.replace("made.txt", str(tmp_path / "made.txt")))
    build_network(f"{tmp_path}/mine.py:make", {})
    assert (tmp_path / "made.txt").read_text() == "made\n"


def test_what_the_meta_device_lacks_is_no_mistake() -> None:
    def make() -> float:
        return torch.ones(3).sum().item()

    assert within_memory(make, "it", rehearse=True) == 3


def test_absurd_options() -> None:
    with pytest.raises(UserError, match=r"network 'NAFNet' with these options needs at least .* GiB"):
        build_network("NAFNet", {**OPTIONS, "width": 1_000_000})
    with pytest.raises(UserError, match="cannot be built with these options"):
        build_network("NAFNet", {**OPTIONS, "width": -1})
