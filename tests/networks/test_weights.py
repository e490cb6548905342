"""Reading weights: every container people have, strictly, and no code."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from udc_robust.errors import UserError
from udc_robust.networks.short_names import named_by_file
from udc_robust.networks.weights import facts_of, load_into, no_code, read_weights, save_weights


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"params": s},
        lambda s: {"params_ema": s, "params": {k: v * 0 for k, v in s.items()}},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": {f"module.{k}": v for k, v in s.items()}, "optimizer": {"state": {}}},
        lambda s: {"state_dict": {f"model.net_g.{k}": v for k, v in s.items()}, "global_step": 3},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"net_g.{k}": v for k, v in s.items()},
    ],
)
def test_basicsr_containers(network, wrap, tmp_path) -> None:
    path = tmp_path / "net.pth"
    torch.save(wrap(network.state_dict()), path)
    state, _ = read_weights(path)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
    load_into(other, state, path)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), network.parameters(), strict=True))


def test_only_what_all_names_begin_with_is_stripped(network) -> None:
    state = {f"{'module.' if k.startswith('0') else ''}{k}": v for k, v in network.state_dict().items()}
    with pytest.raises(UserError, match=r"2 missing \(0\.bias, 0\.weight\); 2 unexpected \(module"):
        load_into(network, state, "net.pth")
    inner = nn.Sequential(network)  # its names all begin with "0.", and must keep it
    load_into(inner, {f"module.{k}": v for k, v in inner.state_dict().items()}, "net.pth")


@pytest.mark.parametrize(
    "written, read",
    [
        ({"name": "runs/mine/mine.safetensors"}, {"name": "mine", "weights": "runs/mine/mine.safetensors"}),
        ({"name": "nets.py:Net", "domain": "srgb"}, {"name": "Net", "network": "nets.py:Net", "domain": "srgb"}),
        ({"name": "mine", "weights": "a.pth"}, {"name": "mine", "weights": "a.pth"}),
        ({"name": "a.pth", "weights": "b.pth"}, {"name": "a.pth", "weights": "b.pth"}),
        ("nonsense", "nonsense"),
    ],
)
def test_a_file_is_a_name(written, read) -> None:
    assert named_by_file(written) == read


def test_safetensors_round_trip_with_facts(network, tmp_path) -> None:
    save_weights(tmp_path / "net.safetensors", network, {"network": "NAFNet", "options": {"width": 8}})
    state, facts = read_weights(tmp_path / "net.safetensors")
    assert facts == {"network": '"NAFNet"', "options": '{"width": 8}'}
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


class Bomb:
    def __reduce__(self):
        return (open, ("bomb-went-off", "w"))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": Bomb()}, "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth holds more than tensors.*refused"):
        read_weights("bad.pth")
    assert not (tmp_path / "bomb-went-off").exists()


def test_damaged_and_missing_files(tmp_path) -> None:
    with pytest.raises(UserError, match="no weights at"):
        read_weights(tmp_path / "none.pth")
    for name, content in [("a.pth", b""), ("b.pth", b"not a checkpoint"), ("c.safetensors", b"\x01")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is not a readable"):
            read_weights(tmp_path / name)
    torch.save({"params": {"a": 3}}, tmp_path / "d.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read_weights(tmp_path / "d.pth")
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), tmp_path / "e.pth")
    whole = (tmp_path / "e.pth").read_bytes()
    (tmp_path / "e.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"e\.pth"):
        read_weights(tmp_path / "e.pth")


def test_another_network_is_named_in_short(network, tmp_path) -> None:
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    state, _ = read_weights(tmp_path / "other.safetensors")
    with pytest.raises(UserError) as caught:
        load_into(network, state, "other.safetensors")
    text = str(caught.value)
    assert "2 missing (1.bias, 1.weight)" in text and "2 unexpected (2.bias, 2.weight)" in text
    assert "0.weight (8, 3, 3, 3) instead of (4, 3, 3, 3)" in text and "\n" not in text


def test_an_entry_too_few_or_too_many_is_refused(network) -> None:
    whole = network.state_dict()
    few = {name: tensor for name, tensor in whole.items() if name != "1.bias"}
    with pytest.raises(UserError, match=r"net\.pth does not fit Sequential: 1 missing \(1\.bias\);"):
        load_into(network, few, "net.pth")
    many = {**whole, "2.bias": torch.zeros(3)}
    with pytest.raises(UserError, match=r"net\.pth does not fit Sequential: 1 unexpected \(2\.bias\);"):
        load_into(network, many, "net.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(network, value) -> None:
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["1.weight"][2, 1, 0, 0] = value
    with pytest.raises(UserError, match=r"NaN or infinite weights in 1\.weight: get it again"):
        load_into(network, state, "bad.pth")


def test_the_same_weights_and_metadata_make_the_same_bytes(tmp_path) -> None:
    network, metadata = nn.Linear(3, 2), {name: name for name in "zyxwvutsrqponm"}
    save_weights(tmp_path / "a.safetensors", network, metadata)
    save_weights(tmp_path / "b.safetensors", network, dict(sorted(metadata.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state, read = read_weights(tmp_path / "a.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert read == {name: json.dumps(name) for name in metadata}


@pytest.mark.parametrize(
    "metadata, message",
    [
        ({"network": 5}, "metadata 'network' must be a name, not 5"),
        ({"options": [1]}, "metadata 'options' must be options by name"),
        ({"domain": {}}, "metadata 'domain'"),
        ({"parent": ["a"]}, "metadata 'parent'"),
        ({"ancestors": ["a"]}, "metadata 'ancestors'"),
        ({"ancestors": {"ab12": 3}}, "metadata 'ancestors'"),
        ({"mean": ["a"]}, "metadata 'mean' must be a list of numbers"),
        ({"classes": [1]}, "metadata 'classes' must be a list of names"),
    ],
)
def test_metadata_of_other_types_is_refused(network, metadata, message, tmp_path) -> None:
    save_weights(tmp_path / "net.safetensors", network, metadata)
    with pytest.raises(UserError, match=rf"net\.safetensors: its {message}"):
        facts_of(read_weights(tmp_path / "net.safetensors")[1], tmp_path / "net.safetensors")


def test_metadata_that_is_whole(network, tmp_path) -> None:
    said = {"network": "NAFNet", "options": {"width": 4}, "mean": [0, 0.5, 1], "classes": ["a"], "steps": 3}
    save_weights(tmp_path / "net.safetensors", network, {**said, "parent": None})
    found = facts_of(read_weights(tmp_path / "net.safetensors")[1], "net")
    assert found == {key: value for key, value in said.items() if key != "steps"}
    with pytest.raises(UserError, match="is not JSON"):
        facts_of({"options": "{"}, "net")


def test_a_file_never_names_code() -> None:
    assert no_code("NAFNet", "net") == "NAFNet"
    for path in ("evil.py:Net", "os:system", "torch.nn.Linear"):
        with pytest.raises(UserError, match=f"code of somebody's and is not run.*`--restorer {path}`"):
            no_code(path, "net")


def test_entries_without_names_are_no_state_dict(network, tmp_path) -> None:
    torch.save(dict(enumerate(network.state_dict().values())), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"expected tensors by name.*found keys 0, 1"):
        read_weights(tmp_path / "net.pth")
