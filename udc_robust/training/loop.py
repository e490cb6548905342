"""The one training loop, over ``accelerate``: one process, or ``accelerate launch`` on many.

Batches are a pure function of the step and a loss of its batch and step, so a training that was killed goes on to the
same weights. A training is five lines::

    accelerator = start(config, out)                  # seeds everything: build the network after it
    batches = SomeBatches(data, **share(config, accelerator))
    trained = train(accelerator, config, out, network, batches, loss, validate)
    if accelerator.is_main_process:
        write(trained.network, trained.validation, trained.seconds)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from udc_robust.attacks.streams import image_seed
from udc_robust.config_file import plain
from udc_robust.errors import UserError
from udc_robust.files import disk_errors
from udc_robust.grid.identity import input_digests
from udc_robust.lock import sole_writer
from udc_robust.progress import doing, note, progress
from udc_robust.training.batches import Share, StepBatches, loader
from udc_robust.training.checkpoint import STATE, check_result, load_state, save_state, whole
from udc_robust.training.config import Training
from udc_robust.training.curves import CURVES, Curves
from udc_robust.training.learning_rate import learning_rate, moving_average
from udc_robust.training.precision import NAMES, precision

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
        note: a few words for a line that stays.
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
        arithmetic: of the last call: ``float32`` where the processor lacks what the config asks for.
        history: figures of every validation, each with its ``step``.
    """

    network: nn.Module
    seconds: float
    arithmetic: str
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

    for ending in ("", ".safetensors", ".md"):
        check_result(out / f"{config.name}{ending}")
    accelerator = Accelerator(
        mixed_precision=precision(config.mixed_precision),
        cpu=not torch.cuda.is_available(),
    )
    set_seed(config.seed % 2**32)  # NumPy takes no larger ones
    return accelerator


def share(config: Training, accelerator: Accelerator) -> Share:
    """This process's share of the batches."""
    return {
        "batch": config.batch_size, "steps": config.steps, "seed": config.seed,
        "rank": accelerator.process_index, "ranks": accelerator.num_processes,
    }  # fmt: skip


class _State:
    """What changes in a training, with the file that it is kept in: a training that was stopped goes on from there."""

    def __init__(
        self, accelerator: Accelerator, config: Training, out: Path, network: nn.Module, also: Sequence[str]
    ) -> None:  # fmt: skip
        if config.channels_last:
            # Weights only: torch's exchange between processes fails where a network's only buffer is laid out so.
            for weight in network.parameters():
                if weight.dim() == 4:
                    weight.data = weight.data.to(memory_format=torch.channels_last)
        self.accelerator, self.config, self.file = accelerator, config, out / STATE
        self.trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if not self.trained:
            raise UserError(f"network {config.name!r} has no weights to train: choose another `network`")
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
        )
        self.average = AveragedModel(network, multi_avg_fn=moving_average(config.ema))
        self.settings = plain(config, {"out", "validate_every", "save_every", "about", "licence", "tile"})
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.inputs = {
            name: found for name, found in input_digests(config, also).items() if not _lies_in(Path(name), out)
        }
        if state := load_state(self.file, self.settings, self.inputs):
            with whole(self.file):
                network.load_state_dict(state["network"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.average.load_state_dict(state["average"])
                self.step, self.seconds, self.history = int(state["step"]), float(state["seconds"]), state["history"]
        self.average.to(accelerator.device)
        self.model, self.optimizer = accelerator.prepare(network, self.optimizer)

    def update(self, loss: Loss, batch: tuple[Tensor, ...]) -> float:
        """Take one step and return its loss.

        Raises:
            UserError: a loss or a gradient that is not finite.
        """
        accelerator, config = self.accelerator, self.config
        # What a network draws without a stream of its own, as stochastic depth does, is of the step and the process.
        torch.manual_seed(image_seed(config.seed, f"step {self.step}", f"process {accelerator.process_index}"))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, config)
        with accelerator.autocast():
            value = loss(self.model, tuple(part.to(accelerator.device) for part in batch), self.step)
        # The mean over the processes: they stop together, or one would wait for the others for ever.
        shown = accelerator.reduce(value.detach(), "mean").item()
        self._stop_unless_finite("loss", shown)
        if not value.requires_grad:
            raise UserError("the loss has no gradient: the network's code cuts it (`torch.no_grad` or `detach`?)")
        self.optimizer.zero_grad()
        accelerator.backward(value)
        norm = accelerator.clip_grad_norm_(self.trained, config.clip_grad)
        if accelerator.mixed_precision != "fp16" and norm is not None:  # fp16's scaler skips such steps by itself
            self._stop_unless_finite("gradient", float(norm))
        self.optimizer.step()
        self.average.update_parameters(accelerator.unwrap_model(self.model))
        self.step += 1
        return shown

    def _stop_unless_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            kept = f"the last state is {self.file}" if self.file.is_file() else f"no {self.file} was saved yet"
            raise UserError(f"the {what} is {value} at step {self.step}: lower `lr`; {kept}")

    def stop_unless_sound(self, curves: Mapping[str, float] | None = None) -> None:
        """Refuse to go on with weights that are not finite, or with a figure of the validation that is NaN.

        Raises:
            UserError: nothing of it is saved.
        """
        for weights in (self.model, self.average):
            self._stop_unless_finite("largest weight", _largest(weights))
        for name, figure in (curves or {}).items():
            if math.isnan(figure):
                self._stop_unless_finite(f"{name} of the validation", figure)

    def due(self, every: int) -> bool:
        """Whether something is due that happens every so many steps, and at the end."""
        return self.step % every == 0 or self.step == self.config.steps

    def save(self) -> None:
        """Write the state, on one process only."""
        if self.accelerator.is_main_process:
            state = {
                "settings": self.settings, "inputs": self.inputs, "step": self.step, "seconds": self.seconds,
                "history": self.history,
                "network": self.accelerator.unwrap_model(self.model).state_dict(),
                "optimizer": self.optimizer.state_dict(), "average": self.average.state_dict(),
            }  # fmt: skip
            save_state(self.file, state)


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
        UserError: another training or process in ``out``, a full disk, or a loss that is not finite (the last state
            is kept).
    """
    with disk_errors(out), sole_writer(out):
        state = _State(accelerator, config, out, network, also)
        first = accelerator.is_main_process
        with (
            Curves(out / CURVES if first else None) as drawn,
            progress(f"training {config.name}", config.steps, state.step, quiet=not first) as tick,
        ):
            started = time.perf_counter()
            for batch in loader(batches, state.step):
                shown = state.update(loss, batch)
                tick(f"loss {shown:.4f}")
                if state.step % 20 == 0:
                    drawn.add({"loss": shown, "lr": learning_rate(state.step - 1, config)}, state.step)
                if state.due(config.validate_every):
                    state.stop_unless_sound()
                    doing("validation")
                    found = validate(state.average.module)
                    state.stop_unless_sound(found.curves)
                    state.history.append({"step": state.step, **found.figures})
                    drawn.add({f"validation/{name}": number for name, number in found.curves.items()}, state.step)
                    note(f"{config.name}, step {state.step}: {found.note}")
                if state.due(config.save_every):
                    state.stop_unless_sound()
                    now = time.perf_counter()
                    state.seconds, started = state.seconds + now - started, now
                    state.save()
        accelerator.end_training()
    return Trained(state.average.module, state.seconds, NAMES[accelerator.mixed_precision], state.history)


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a file is one of this training's own: they change as it goes."""
    return folder.absolute() in path.absolute().parents


def _largest(network: nn.Module) -> float:
    """The largest absolute value of what a network is saved with; NaN where one is."""
    numbers = [part for part in network.state_dict().values() if part.is_floating_point() and part.numel()]
    return float(torch.stack([part.abs().max().float() for part in numbers]).max()) if numbers else 0.0
