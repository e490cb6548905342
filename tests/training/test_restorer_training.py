"""Training: it learns, it resumes to the same weights, and its mistakes are told."""

from __future__ import annotations

import json
import math
import socket

import pytest
import torch

from udc_robust.config_file import check_config
from udc_robust.data.samples import PairedFolders, Sample
from udc_robust.defences.registry import build_defence
from udc_robust.errors import UserError
from udc_robust.networks.weights import read_weights
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer
from udc_robust.training import restorer as training
from udc_robust.training.batches import PairBatches, loader
from udc_robust.training.config import TrainConfig
from udc_robust.training.learning_rate import learning_rate


def _config(sets, **changes) -> TrainConfig:
    values = {
        "name": "tiny", "network": "NAFNet", "train": sets / "train", "validation": sets / "validation",
        "domain": "srgb", "options": {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]},
        "patch_size": 16, "batch_size": 4, "steps": 30, "lr": 0.01, "warmup": 3, "ema": 0.5,
        "validate_every": 15, "save_every": 10,
    }  # fmt: skip
    return check_config({**values, **changes}, TrainConfig, "test")


def test_it_learns_and_its_weights_serve(sets) -> None:
    facts = training.train_restorer(_config(sets, steps=60), sets / "out")
    assert facts["validation"]["gain"] > 12  # colour alone, of pairs that do not match in place, gives 6.5
    restorer = load_restorer(RestorerSpec("tiny", weights=str(sets / "out" / "tiny.safetensors")), "srgb")
    figures = training.validate(
        restorer, PairedFolders(sets / "validation" / "lq", sets / "validation" / "gt"), torch.device("cpu")
    )
    assert figures["psnr"] == pytest.approx(facts["validation"]["psnr"], abs=1e-6)
    card = (sets / "out" / "tiny.md").read_text()
    assert f"{facts['validation']['psnr']:.2f}" in card and "8 pairs" in card
    assert "| validation | PSNR in dB, SSIM |" in card
    (curves,) = (sets / "out").rglob("events.out.tfevents.*")
    assert socket.gethostname() not in curves.name


def test_a_network_works_in_its_own_domain_whatever_the_data_are_in(sets) -> None:
    restorer = training._restorer(_config(sets, domain="tonemapped"), "srgb")
    assert (restorer.domain, restorer.network_domain) == ("srgb", "tonemapped")


def test_it_learns_to_undo_a_defence(sets) -> None:
    config = _config(sets, steps=60, degradation={"kind": "noise", "sigma": 0.2})
    facts = training.train_restorer(config, sets / "out")
    figures = facts["validation"]
    assert figures["input_psnr"] == pytest.approx(-20 * math.log10(0.2), abs=1.0)  # the noise, not what lies in lq
    assert figures["gain"] > 1.0
    assert training.train_restorer(config, sets / "again")["validation"] == figures
    noise, gt = build_defence("noise", {"sigma": 0.2}), torch.rand(3, 3, 8, 8)
    whole = training.degraded(noise, gt, [5, 6, 7])
    assert torch.equal(training.degraded(noise, gt[1:], [6, 7]), whole[1:])  # a row's noise is its own


def test_a_stopped_training_resumes_to_the_same_weights(sets, monkeypatch) -> None:
    training.train_restorer(_config(sets), sets / "whole")
    true_loss, calls = training.loss_of, []

    def stops(*args):
        calls.append(1)
        if len(calls) > 17:  # after the state of step 10, before that of step 20
            raise KeyboardInterrupt
        return true_loss(*args)

    monkeypatch.setattr(training, "loss_of", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train_restorer(_config(sets), sets / "stopped")
    monkeypatch.setattr(training, "loss_of", true_loss)
    training.train_restorer(_config(sets), sets / "stopped")
    whole, resumed = (read_weights(sets / name / "tiny.safetensors")[0] for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_mistakes(sets) -> None:
    training.train_restorer(_config(sets, steps=10), sets / "out")
    with pytest.raises(UserError, match="another lr"):
        training.train_restorer(_config(sets, steps=10, lr=0.1), sets / "out")
    with pytest.raises(UserError, match=r"batch_size 9 is larger than the data \(8 pairs\)"):
        training.train_restorer(_config(sets, batch_size=9), sets / "b")
    with pytest.raises(UserError, match="smaller than patch_size 64"):
        training.train_restorer(_config(sets, patch_size=64), sets / "c")
    (sets / "out" / "state.pt").write_bytes(b"half")
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        training.train_restorer(_config(sets, steps=10), sets / "out")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(sets, monkeypatch) -> None:
    true_loss, calls = training.loss_of, []

    def diverges(*args):
        calls.append(1)
        return true_loss(*args) * (float("nan") if len(calls) > 12 else 1)

    monkeypatch.setattr(training, "loss_of", diverges)
    with pytest.raises(UserError, match=r"loss is nan at step 12.*state\.pt"):
        training.train_restorer(_config(sets), sets / "out")
    assert torch.load(sets / "out" / "state.pt", weights_only=True)["step"] == 10


def test_batches_depend_on_the_step_only_and_split_over_processes(sets) -> None:
    pairs = PairedFolders(sets / "train" / "lq", sets / "train" / "gt")

    def make(**changes) -> PairBatches:
        return PairBatches(pairs, **{"patch": 16, "batch": 4, "steps": 6, "seed": 1, **changes})

    whole = make()
    late = list(loader(whole, 4))
    assert len(late) == 2 and torch.equal(late[0][0], whole[4][0])
    shares = [make(rank=rank, ranks=2)[3][0] for rank in range(2)]
    assert torch.equal(torch.stack([shares[0][0], shares[1][0], shares[0][1], shares[1][1]]), whole[3][0])
    assert not torch.equal(whole[0][0], whole[1][0]) and not torch.equal(make(seed=2)[0][0], whole[0][0])


def test_the_schedule_warms_up_and_falls(sets) -> None:
    config = _config(sets, steps=100, warmup=10, lr=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 0.02


@pytest.mark.parametrize("kind", ["l1", "l2", "charbonnier", "psnr"])
def test_losses_are_their_formulas(kind) -> None:
    output, target = torch.rand(3, 3, 5, 6).double(), torch.rand(3, 3, 5, 6).double()
    output[0] = target[0] + 0.01
    error = output - target
    per_image = {
        "l1": error.abs(), "l2": error**2, "charbonnier": (error**2 + 1e-6).sqrt() - 1e-3,
        "psnr": 10 * ((error**2).mean((1, 2, 3)) + 1e-8).log10(),
    }[kind]  # fmt: skip
    assert training.loss_of(output, target, kind).item() == pytest.approx(per_image.mean().item())
    if kind != "psnr":
        torch.testing.assert_close(training.losses_of(output, target, kind), per_image.mean((1, 2, 3)))


def test_validation_is_of_whole_images_as_deployed_and_leaves_the_mode(sets) -> None:
    class Loud(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1.9 * x - 0.2

    restorer = Restorer("loud", Loud(), domain="srgb", network_domain=None, trained=True, origin="test")
    pairs = PairedFolders(sets / "validation" / "lq", sets / "validation" / "gt")
    outputs = [(1.9 * pair.lq - 0.2).double().clamp(0, 1) for pair in pairs]
    assert any((1.9 * pair.lq - 0.2).max() > 1.01 for pair in pairs)

    def mean_psnr(images) -> float:
        errors = [((image - pair.gt) ** 2).double().mean() for image, pair in zip(images, pairs, strict=True)]
        return float(torch.stack([-10 * error.log10() for error in errors]).mean())

    for training_mode in (True, False):
        figures = training.validate(restorer.train(training_mode), pairs, torch.device("cpu"))
        assert restorer.training is training_mode
        assert figures["psnr"] == pytest.approx(mean_psnr(outputs), abs=1e-4)
        assert figures["input_psnr"] == pytest.approx(mean_psnr([pair.lq for pair in pairs]), abs=1e-4)
        assert figures["gain"] == pytest.approx(figures["psnr"] - figures["input_psnr"])


def test_large_validation_images_are_taken_in_tiles(sets, large_pairs, shapes_seen) -> None:
    training.train_restorer(_config(sets, validation=large_pairs, steps=1, tile=64), sets / "out")
    assert (64, 64) in shapes_seen and (96, 80) not in shapes_seen


def test_a_validation_pair_is_degraded_by_a_draw_of_its_own() -> None:
    noise, gt = build_defence("noise", {"sigma": 0.1}), torch.rand(3, 6, 6)
    first, again, other = (
        training.degraded_pair(noise, Sample(key, gt * 0.5, gt, "srgb", "")).lq for key in ("a", "a", "b")
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float((first - gt).std()) == pytest.approx(0.1, rel=0.3)


def test_settings_in_the_card_are_those_of_the_run(sets) -> None:
    config = _config(sets, steps=10)
    facts = training.train_restorer(config, sets / "out")
    block = (sets / "out" / "tiny.md").read_text().split("```json")[1].split("```")[0]
    assert json.loads(block)["lr"] == config.lr and facts["steps"] == 10


@pytest.mark.parametrize("state", [{}, [1], {"settings": 5}, {"settings": None}, b"PK", "a folder"])
def test_a_damaged_state_is_named(sets, state) -> None:
    path = sets / "out" / "state.pt"
    path.parent.mkdir()
    if isinstance(state, bytes):
        path.write_bytes(state)
    elif state == "a folder":
        path.mkdir()
    else:
        torch.save(state, path)
    with pytest.raises(UserError, match=r"state.pt is damaged \(\w+\): delete it to start again"):
        training.train_restorer(_config(sets, steps=1), sets / "out")


def test_a_state_that_has_lost_a_part_is_named(sets) -> None:
    config = _config(sets, steps=2, warmup=1)
    training.train_restorer(config, sets / "out")
    state = torch.load(sets / "out" / "state.pt", weights_only=True)
    for part in ("network", "optimizer", "average", "step", "history"):
        torch.save({key: value for key, value in state.items() if key != part}, sets / "out" / "state.pt")
        with pytest.raises(UserError, match=r"state.pt is damaged"):
            training.train_restorer(config, sets / "out")
    (sets / "out" / "state.pt").unlink()  # as the message says
    assert training.train_restorer(config, sets / "out")["steps"] == 2


def test_what_a_training_did_not_make_is_left_alone(sets) -> None:
    (sets / "out" / "tiny").mkdir(parents=True)
    with pytest.raises(UserError, match="tiny is there already, and no training of it"):
        training.train_restorer(_config(sets, steps=1), sets / "out")


def test_a_disk_that_is_full_leaves_the_last_state(sets, monkeypatch) -> None:
    """torch tells a full disk as a RuntimeError of its own."""
    true_save, calls = torch.save, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598")
        true_save(*arguments)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write .*state.pt: the disk is full"):
        training.train_restorer(_config(sets, steps=4, save_every=2), sets / "out")
    monkeypatch.setattr(torch, "save", true_save)
    assert torch.load(sets / "out" / "state.pt", weights_only=True)["step"] == 2


def test_weights_and_card_name_no_place_of_a_machine(sets, monkeypatch) -> None:
    begin = training.train_restorer(_config(sets, steps=1), sets / "first") and sets / "first" / "tiny.safetensors"
    config = _config(sets, steps=1, weights=str(begin), degradation={"kind": "blur"})
    training.train_restorer(config, sets / "second")
    for name in ("tiny.safetensors", "tiny.md"):
        assert str(sets).encode() not in (sets / "second" / name).read_bytes()
    assert "first/tiny.safetensors" in (sets / "second" / "tiny.md").read_text()
