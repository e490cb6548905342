"""The training loop against AdamW written out: rate, clipping, averaging, history and resuming."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.training import loop
from udc_robust.training.batches import StepBatches
from udc_robust.training.config import TrainConfig
from udc_robust.training.learning_rate import learning_rate
from udc_robust.training.loop import Trained, Validation, start, train


class Numbers(StepBatches):
    """Inputs and targets of a linear network, of growing scale so that some gradients are clipped."""

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        x = torch.randn(4, 3, generator=self._stream(step, 0)) * (1 + step % 3)
        return x, x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 1


def _config(**changes) -> TrainConfig:
    values = {
        "name": "line", "network": "x", "train": "x", "validation": "x", "steps": 12, "batch_size": 4, "lr": 0.05,
        "warmup": 3, "weight_decay": 0.1, "ema": 0.6, "clip_grad": 15.0, "validate_every": 5, "save_every": 4,
    }  # fmt: skip
    return check_config({**values, **changes}, TrainConfig, "test")


def _loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
    return (network(batch[0]) - batch[1]).square().mean()


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Linear(3, 1)


def _train(out: Path, loss=_loss, **changes) -> tuple[Trained, list[dict[str, Tensor]]]:
    config, validated = _config(**changes), []

    def validate(network: nn.Module) -> Validation:
        validated.append(copy.deepcopy(network.state_dict()))
        return Validation({"norm": float(network.weight.norm().detach())}, {}, f"no. {len(validated)}")

    batches = Numbers(batch=4, steps=config.steps, seed=config.seed)
    return train(start(config, out), config, out, _network(), batches, loss, validate), validated


def _written_out(config: TrainConfig) -> list[dict[str, Tensor]]:
    """The averaged weights after each step: AdamW (Loshchilov & Hutter 2019, Algorithm 2)."""
    network, batches, found = _network(), Numbers(batch=4, steps=config.steps, seed=config.seed), []
    names, weights = zip(*network.named_parameters(), strict=True)
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    average = [w.detach().clone() for w in weights]
    clipped = 0
    for step in range(config.steps):
        gradients = torch.autograd.grad(_loss(network, batches[step], step), weights)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        clipped += norm > config.clip_grad
        for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            g = g * min(1, config.clip_grad / float(norm))
            first[i], second[i] = 0.9 * first[i] + 0.1 * g, 0.9 * second[i] + 0.1 * g**2
            scale = 1 - 0.9 ** (step + 1)
            rate = learning_rate(step, config)
            with torch.no_grad():
                w -= rate * config.weight_decay * w + rate * (first[i] / scale) / ((second[i] / scale).sqrt() + 1e-8)
            decay = min(config.ema, (1 + step) / (10 + step)) if step else 0.0  # the first step's weights begin it
            average[i] = decay * average[i] + (1 - decay) * w.detach()
        found.append(dict(zip(names, average, strict=True)))
    assert 0 < clipped < config.steps
    return found


def test_what_each_validation_found_stays_in_the_log(tmp_path, capsys) -> None:
    _train(tmp_path)
    told = [line for line in capsys.readouterr().err.splitlines() if "no. " in line]
    assert told == ["line, step 5: no. 1", "line, step 10: no. 2", "line, step 12: no. 3"]


def _close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.allclose(ours[name], tensor, rtol=1e-4, atol=1e-5) for name, tensor in expected.items())


def test_it_is_adamw_with_clipping_and_the_average_is_validated_and_handed_back(tmp_path) -> None:
    trained, validated = _train(tmp_path)
    expected = _written_out(_config())
    assert _close(trained.network.state_dict(), expected[-1])
    assert len(validated) == 3 and all(
        _close(ours, expected[step - 1]) for ours, step in zip(validated, (5, 10, 12), strict=True)
    )
    assert [entry["step"] for entry in trained.history] == [5, 10, 12] and trained.validation == trained.history[-1]
    assert trained.seconds > 0


@pytest.mark.parametrize("asked", ["no", "fp16"])  # fp16 is float32 on a CPU, without a scaler that skips such steps
def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(asked, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def loss(network, batch, step):
        value = _loss(network, batch, step)
        return value + (0 * network.weight).abs().sqrt().sum() if step == 6 else value

    with pytest.raises(UserError, match=r"gradient is nan at step 6: lower `lr`; the last state is .*state\.pt"):
        _train(tmp_path, loss, mixed_precision=asked)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 4 and state["network"]["weight"].isfinite().all()


def _careless(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
    """Draws without a stream of its own."""
    return (network(nn.functional.dropout(batch[0], 0.3)) - batch[1]).square().mean()


@pytest.mark.parametrize("stop, loss", [(6, _loss), (9, _loss), (9, _careless)])
def test_a_resumed_training_has_the_weights_the_average_and_the_history_of_a_whole_one(tmp_path, stop, loss) -> None:
    whole, _ = _train(tmp_path / "whole", loss)
    steps = []

    def stops(network, batch, step):
        steps.append(step)
        if len(steps) == stop + 1:
            raise KeyboardInterrupt
        return loss(network, batch, step)

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "cut", stops)
    resumed, _ = _train(tmp_path / "cut", stops)
    assert steps == [*range(stop + 1), *range(stop // 4 * 4, 12)]  # from the last state, not from the beginning
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor)
    assert resumed.history == whole.history
    done, _ = _train(tmp_path / "cut", stops)
    assert len(steps) == stop + 1 + 12 - stop // 4 * 4 and done.seconds == resumed.seconds
    assert done.history == whole.history


def test_seconds_are_those_of_all_calls(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=itertools.count().__next__))  # one a look

    def stops(network, batch, step):
        if step == 9 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        return _loss(network, batch, step)

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, stops)
    assert _train(tmp_path, stops)[0].seconds == 3  # saved after steps 4 and 8, and after step 12


def test_weights_that_are_not_finite_are_never_kept(tmp_path) -> None:
    def bursts(network, batch, step):
        if step == 11:  # after the last gradient: only the weights themselves tell
            with torch.no_grad():
                network.weight[0, 0] = torch.inf
            return (network.bias * 0).sum()
        return _loss(network, batch, step)

    with pytest.raises(UserError, match=r"largest weight is (nan|inf) at step 12: lower `lr`; the last state is .*pt"):
        _train(tmp_path, bursts)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 8


def test_a_loss_without_a_gradient_and_a_network_without_weights_are_told(tmp_path) -> None:
    with pytest.raises(UserError, match="the loss has no gradient"):
        _train(tmp_path, lambda network, batch, step: _loss(network, batch, step).detach())
    config = _config()
    with pytest.raises(UserError, match="'line' has no weights to train"):
        train(start(config, tmp_path), config, tmp_path, nn.Identity(), Numbers(batch=4, steps=1, seed=0), _loss, None)


def test_a_file_that_changed_is_named_and_another_one_too(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(b"one")
    (tmp_path / "more.txt").write_bytes(b"one")
    config = _config(out=str(tmp_path / "x" / "out"))

    def once() -> None:
        out = tmp_path / "x" / "out"  # its own files change, and are no input
        batches, found = Numbers(batch=4, steps=12, seed=0), Validation({}, {}, "")
        train(start(config, out), config, out, _network(), batches, _loss, lambda network: found, ["more.txt"])

    once()
    once()
    for name in ("x/a.png", "more.txt"):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"two")
        with pytest.raises(UserError, match=rf"a training of other files \({name} changed\)"):
            once()
        (tmp_path / name).write_bytes(before)
    once()


def test_a_seed_of_any_size(tmp_path) -> None:
    _train(tmp_path, seed=2**63 - 1)


def test_every_step_and_process_has_luck_of_its_own(tmp_path, monkeypatch) -> None:
    drawn = []

    def loss(network, batch, step):
        drawn.append(float(torch.rand(())))
        return _loss(network, batch, step)

    for process in (0, 1):
        monkeypatch.setattr(Accelerator, "process_index", property(lambda self, process=process: process))
        _train(tmp_path / str(process), loss)
    assert len(set(drawn)) == 24


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_half_precision_is_used_where_the_processor_has_it_and_told(has, dtype, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("udc_robust.training.precision.has_bfloat16", lambda: has)
    seen = set()

    def loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
        seen.add(torch.nn.functional.linear(batch[0], batch[0]).dtype)
        return _loss(network, batch, step)

    AcceleratorState._reset_state()
    trained, _ = _train(tmp_path, loss, mixed_precision="bf16", steps=2)
    AcceleratorState._reset_state()
    assert seen == {dtype}
    assert trained.arithmetic == str(dtype).removeprefix("torch.")
