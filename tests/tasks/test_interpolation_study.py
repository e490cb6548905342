"""Mixtures of weights: what they are, which one is kept, and what is refused."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file

from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network
from udc_robust.tasks import interpolation_study as mixing
from udc_robust.tasks.interpolation_study import Point

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
DATA = {"kind": "embedded", "limit": 1, "size": 32}


def _weights(folder, name, seed=0, **options):
    torch.manual_seed(seed)
    network = build_network("NAFNet", {**TINY, **options})
    facts = {"network": "NAFNet", "options": {**TINY, **options}, "domain": "tonemapped"}
    save_weights(folder / f"{name}.safetensors", network, facts)
    return {"name": name, "weights": str(folder / f"{name}.safetensors")}


def _study(folder, a, b, **changes):
    settings = {
        "name": "mixed",
        "clean_budget": 50.0,
        "attack": {"method": "pgd", "steps": 1, "eps": "4/255"},
        **changes,
    }
    return mixing.study(a, b, DATA, [0.0, 0.25, 1.0], folder / "out", **settings)


def test_a_mixture_lies_between_and_the_best_in_budget_is_kept(tmp_path) -> None:
    ends = [_weights(tmp_path, name, seed) for seed, name in enumerate(("before", "after"))]
    points = _study(tmp_path, *ends)
    before, after, quarter = (
        load_file(path)
        for path in (*(end["weights"] for end in ends), tmp_path / "out" / "mixtures" / "0.25 of the way.safetensors")
    )
    for name, tensor in quarter.items():
        assert torch.allclose(tensor, 0.75 * before[name] + 0.25 * after[name], atol=1e-7)
    kept = next(point for point in points if point.kept)
    assert kept.attacked == max(point.attacked for point in points if point.share > 0)
    assert points[0].cost == 0 and points[1].cost == pytest.approx(points[0].clean - points[1].clean)
    mixed = load_file(tmp_path / "out" / "mixed.safetensors")
    source = load_file(tmp_path / "out" / "mixtures" / f"{kept.share:g} of the way.safetensors")
    assert all(torch.equal(mixed[name], source[name]) for name in source)
    with open(tmp_path / "out" / "frontier.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    card = (tmp_path / "out" / "mixed.md").read_text()
    assert f"{kept.share:g} of the way from `before` to `after`" in card and f"{kept.attacked:.2f}" in card
    assert [row["share"] for row in rows] == ["0", "0.25", "1"] and (tmp_path / "out" / "frontier.png").is_file()
    assert _study(tmp_path, *ends) == points  # resumed


def test_the_further_blocks_of_a_grown_network_fade_in(tmp_path) -> None:
    small, large = _weights(tmp_path, "small"), _weights(tmp_path, "large", seed=1, middle_blk_num=2)
    network = build_network("NAFNet", {**TINY, "middle_blk_num": 2})
    learnt = load_file(large["weights"])
    block = [name for name in learnt if name.startswith("middle_blks.1.")]
    for name in block:
        learnt[name] = torch.rand_like(learnt[name])
    network.load_state_dict(learnt)
    facts = {"network": "NAFNet", "options": {**TINY, "middle_blk_num": 2}, "domain": "tonemapped"}
    save_weights(tmp_path / "large.safetensors", network, facts)
    points = _study(tmp_path, small, large)
    none, quarter, all_ = (
        load_file(tmp_path / "out" / "mixtures" / f"{share} of the way.safetensors") for share in ("0", "0.25", "1")
    )
    assert torch.equal(none["middle_blks.0.conv1.weight"], load_file(small["weights"])["middle_blks.0.conv1.weight"])
    for name in block:
        begins_as_zero = name.endswith(("beta", "gamma", "norm1.bias", "norm2.bias"))
        assert torch.allclose(quarter[name], learnt[name] * (0.25 if begins_as_zero else 1), atol=1e-6)
        assert torch.equal(all_[name], learnt[name])
    assert points[0].cost == 0 and points[-1].cost != 0


def test_the_frontier_is_there_where_no_mixture_keeps_the_budget(tmp_path) -> None:
    ends = [_weights(tmp_path, name, seed) for seed, name in enumerate(("before", "after"))]
    with pytest.raises(UserError, match="no mixture keeps a clean budget of -50 dB"):
        _study(tmp_path, *ends, clean_budget=-50.0)
    assert (tmp_path / "out" / "frontier.csv").is_file() and (tmp_path / "out" / "frontier.png").is_file()
    assert not (tmp_path / "out" / "mixed.safetensors").exists()


def test_mixtures_of_another_study_are_left_as_they_are(tmp_path) -> None:
    ends = [_weights(tmp_path, name, seed) for seed, name in enumerate(("before", "after", "other"))]
    _study(tmp_path, *ends[:2])
    mixture = tmp_path / "out" / "mixtures" / "0.25 of the way.safetensors"
    before = mixture.read_bytes()
    with pytest.raises(UserError, match=r"0 of the way\.safetensors is of other weights than these"):
        _study(tmp_path, ends[0], ends[2])
    assert mixture.read_bytes() == before


def test_a_mixture_is_not_chosen_without_an_attack(tmp_path) -> None:
    ends = [_weights(tmp_path, name, seed) for seed, name in enumerate(("before", "after"))]
    with pytest.raises(UserError, match="--eps must be above 0"):
        _study(tmp_path, *ends, attack={"method": "pgd", "steps": 1, "eps": 0})
    assert not (tmp_path / "out").exists()


def test_the_clean_budget_chooses() -> None:
    points = [Point(0, 30, 20, 0), Point(0.5, 29.8, 22, 0.2), Point(1, 29, 23, 1.0)]
    assert [p.kept for p in mixing.chosen(points, 0.5)] == [False, True, False]
    assert [p.kept for p in mixing.chosen(points, 1.0)] == [False, False, True]
    with pytest.raises(UserError, match=r"no mixture keeps a clean budget of 0.1 dB: the cheapest, 0.5 of the way"):
        mixing.chosen(points, 0.1)


def test_other_networks_and_images_without_truth_are_refused(tmp_path) -> None:
    small, wide = _weights(tmp_path, "small"), _weights(tmp_path, "wide", width=8)
    with pytest.raises(UserError, match=r"small .NAFNet. and wide .NAFNet. are not the same network"):
        _study(tmp_path, small, wide)
    with pytest.raises(UserError, match="not the same network"):
        _study(tmp_path, {"name": "nafnet_mini"}, {"name": "discnet_mini"})
    for text in ("a,b", "0.5,2", "-1,1", ""):
        with pytest.raises(UserError, match=r"must be numbers from 0 to 1.5"):
            mixing.parse_shares(text)
    assert mixing.parse_shares("1,0.5") == [0.0, 0.5, 1.0]
