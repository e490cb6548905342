"""The one training loop, over ``accelerate``: one process, or ``accelerate launch`` on many.

Batches are a pure function of the step and a loss of its batch and step, so a training that was killed goes on to the
same weights. A training is four lines::

    accelerator = start(config, out)                  # seeds everything: build the network after it
    trained = train(accelerator, config, out, network, batches, loss, validate)
    if accelerator.is_main_process:
        write(trained.network, trained.validation, trained.seconds)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from udc_robust.errors import UserError
from udc_robust.grid.identity import input_digests
from udc_robust.progress import progress
from udc_robust.training.batches import StepBatches, loader
from udc_robust.training.checkpoint import load_state, save_state
from udc_robust.training.config import Training
from udc_robust.training.learning_rate import learning_rate, moving_average

if TYPE_CHECKING:
    from accelerate import Accelerator

Loss = Callable[[nn.Module, tuple[Tensor, ...], int], Tensor]
"""``(network, batch, step) -> loss``, a mean over the rows: of this process's rows, on its device."""


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        figures: for the model card and the state, JSON values by name.
        curves: numbers for TensorBoard.
        note: a few words for the progress bar.
    """

    figures: dict[str, Any]
    curves: dict[str, float]
    note: str


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        network: the averaged weights.
        seconds: of the whole training, over all calls.
        history: figures of every validation, each with its ``step``.
    """

    network: nn.Module
    seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def validation(self) -> dict[str, Any]:
        """The figures of the last validation."""
        return self.history[-1]


def start(config: Training, out: Path) -> Accelerator:
    """Meet the other processes and fix the seed, so that every process builds the same network.

    ``process_index`` and ``num_processes`` of the result share the batches out.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with="tensorboard",
        project_dir=out,
        cpu=not torch.cuda.is_available(),
    )
    set_seed(config.seed % 2**32)  # NumPy takes no larger ones
    return accelerator


def train(
    accelerator: Accelerator,
    config: Training,
    out: Path,
    network: nn.Module,
    batches: StepBatches,
    loss: Loss,
    validate: Callable[[nn.Module], Validation],
    also: Sequence[str] = (),
) -> Trained:
    """Train, or resume where a former call was stopped; the state is ``out/state.pt``.

    Args:
        accelerator: of `start`.
        network: on the CPU, in the mode it is to be trained in; only weights that want a gradient are trained.
        batches: item ``step`` is this process's share of that step's batch.
        loss: called once a step.
        validate: called with the averaged network, on the device, every ``validate_every`` steps and at the end; it
            puts the modes back that it changes.
        also: files and folders that the config means without naming them, see `grid.identity.input_digests`.

    Raises:
        UserError: another training in ``out``, a full disk, or a loss that is not finite (the last state is kept).
    """
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    average = AveragedModel(network, multi_avg_fn=moving_average(config.ema))
    settings = json.loads(config.model_dump_json(exclude={"out", "validate_every", "save_every", "about", "licence"}))
    state_file = out / "state.pt"
    inputs = {name: found for name, found in input_digests(config, also).items() if not _lies_in(Path(name), out)}
    state = load_state(state_file, settings, inputs)
    first_step, seconds = 0, 0.0
    history: list[dict[str, Any]] = []
    if state:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        first_step, seconds, history = state["step"], state["seconds"], state["history"]
    average.to(accelerator.device)
    model, optimizer = accelerator.prepare(network, optimizer)
    accelerator.init_trackers("tensorboard")

    def stop_unless_finite(what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            kept = f"the last state is {state_file}" if state_file.is_file() else f"no {state_file} was saved yet"
            raise UserError(f"the {what} is {value} at step {step}: lower `lr`; {kept}")

    with progress(f"training {config.name}", config.steps, first_step, quiet=not accelerator.is_main_process) as tick:
        started = time.perf_counter()
        for step, batch in enumerate(loader(batches, first_step), first_step):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            with accelerator.autocast():
                value = loss(model, tuple(part.to(accelerator.device) for part in batch), step)
            # The mean over the processes: they stop together, or one would wait for the others for ever.
            shown = accelerator.reduce(value.detach(), "mean").item()
            stop_unless_finite("loss", shown, step)
            optimizer.zero_grad()
            accelerator.backward(value)
            norm = accelerator.clip_grad_norm_(trained, config.clip_grad)
            if config.mixed_precision != "fp16" and norm is not None:  # fp16's scaler skips such steps by itself
                stop_unless_finite("gradient", float(norm), step)
            optimizer.step()
            average.update_parameters(accelerator.unwrap_model(model))
            done = step + 1
            tick(f"loss {shown:.4f}")
            if done % config.validate_every == 0 or done % config.save_every == 0 or done == config.steps:
                for weights in (accelerator.unwrap_model(model), average):
                    stop_unless_finite("largest weight", _largest(weights), step)
            if done % 20 == 0:
                accelerator.log({"loss": shown, "lr": learning_rate(step, config)}, step=done)
            if done % config.validate_every == 0 or done == config.steps:
                found = validate(average.module)
                for name, figure in found.curves.items():
                    if math.isnan(figure):
                        stop_unless_finite(f"{name} of the validation", figure, step)
                history.append({"step": done, **found.figures})
                accelerator.log({f"validation/{name}": number for name, number in found.curves.items()}, step=done)
                tick(found.note, advance=0)
            if done % config.save_every == 0 or done == config.steps:
                seconds, started = seconds + time.perf_counter() - started, time.perf_counter()
                if accelerator.is_main_process:
                    state = {
                        "settings": settings, "inputs": inputs, "step": done, "seconds": seconds, "history": history,
                        "network": accelerator.unwrap_model(model).state_dict(),
                        "optimizer": optimizer.state_dict(), "average": average.state_dict(),
                    }  # fmt: skip
                    save_state(state_file, state)
    accelerator.end_training()
    return Trained(average.module, seconds, history)


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a file is one of this training's own: they change as it goes."""
    return folder.absolute() in path.absolute().parents


def _largest(network: nn.Module) -> float:
    """The largest absolute value of what a network is saved with; NaN where one is."""
    numbers = [part for part in network.state_dict().values() if part.is_floating_point() and part.numel()]
    return float(torch.stack([part.abs().max().float() for part in numbers]).max()) if numbers else 0.0
