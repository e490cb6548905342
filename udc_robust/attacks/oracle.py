"""All that an attack method may ask of a victim: values and input gradients, counted, with the best image kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from udc_robust.attacks.meter import Meter
from udc_robust.attacks.objectives import Objective
from udc_robust.attacks.streams import Streams

Victim = Callable[..., Tensor]
"""Images in, images or scores out. A random one says so (``random = True``) and is called with `Streams` as well."""


@dataclass(frozen=True)
class Chance:
    """What an attacker makes of a random victim; a deterministic one ignores it.

    Attributes:
        seeds: of the victim's randomness as the attacker simulates it, one an image.
        eot: answers averaged for each gradient, as rows of one batch (Athalye et al. 2018, "EOT").
        replay: True when ``seeds`` are the deployed ones: the attacker meets the same draw in every call.
    """

    seeds: Sequence[int]
    eot: int = 1
    replay: bool = False


class Answer(NamedTuple):
    """What the oracle tells about a batch.

    Attributes:
        gradient: ``(B,C,H,W)`` of each image's objective with respect to that image.
        values, broken: ``(B,)`` the objective, and whether the image counts as broken.
    """

    gradient: Tensor
    values: Tensor
    broken: Tensor


def answers(victim: Victim, x: Tensor, seeds: Sequence[int], draws: int = 1) -> Tensor:
    """``draws`` answers of a victim ``(draws,B,...)``, one by one from the same streams; one when it is not random."""
    if not getattr(victim, "random", False):
        return victim(x)[None]
    streams = Streams(seeds)
    return torch.stack([victim(x, streams) for _ in range(draws)])


class Oracle:
    """A victim and an objective, seen through one image batch.

    Attributes:
        goal: ``(B,)`` objective value at which each image counts as broken.
        best_x, best_values, best_broken: the most damaging image asked about so far, its value, and whether it counts
            as broken: one that does is better than any that does not.
        bad_gradients: ``(B,)`` how often a gradient was all zero or not finite (a red flag: masking).
    """

    def __init__(
        self,
        victim: Victim,
        objective: Objective,
        x: Tensor,
        target: Tensor,
        goal: Tensor,
        meter: Meter,
        streams: Streams,
        chance: Chance | None = None,
    ) -> None:
        self._victim, self._target, self._meter = victim, target, meter
        self._chance = chance if getattr(victim, "random", False) else None
        self._victim_streams = Streams(self._chance.seeds) if self._chance else None
        self.objective, self.goal, self.streams = objective, goal, streams
        self.best_x = x.clone()
        self.best_values = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self.best_broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.bad_gradients = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self._last_output: Tensor | None = None

    @torch.no_grad()
    def values(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Objective of each image: one query each. With ``rows``, ``x`` holds only those images of the batch."""
        values, broken, _ = self._ask(x, rows, 1)
        self._meter.count(rows, backward=False)
        self._keep_best(x, values, broken, rows)
        return values

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of each image's objective with respect to that image only."""
        return self.answer(x).gradient

    def answer(self, x: Tensor) -> Answer:
        """Gradient, value and success. Weights get no gradient: a third of the backward pass is saved."""
        eot = self._chance.eot if self._chance else 1
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            values, broken, output = self._ask(x, None, eot)
            (gradient,) = torch.autograd.grad(values.sum(), x)
        # Kept until the next call: an allocation at the top of the heap stops glibc from giving the freed activations
        # back to the system only to fetch them again in the next step.
        self._last_output = output
        x, values = x.detach(), values.detach()
        self._meter.count(None, backward=True, times=eot)
        self._keep_best(x, values, broken, None)
        # One reduction tells both: it is 0 for a dead gradient and NaN or inf for a broken one.
        size = gradient.abs().flatten(1).sum(1)
        self.bad_gradients += ~((size > 0) & size.isfinite())
        return Answer(torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0), values, broken)

    def _ask(self, x: Tensor, rows: Tensor | None, eot: int) -> tuple[Tensor, Tensor, Tensor]:
        """Objective of each image (the mean over ``eot`` answers of a random victim), success, and the answers."""
        target, goal = (part if rows is None else part[rows] for part in (self._target, self.goal))
        if self._chance is None or self._victim_streams is None:
            output = self._victim(x)
            values = self.objective.values(output, target)
            outputs = output.detach()[None]
        else:
            if self._chance.replay:
                self._victim_streams = Streams(self._chance.seeds)
            streams = self._victim_streams.of(rows).repeat(eot)
            output = self._victim(x.repeat_interleave(eot, 0), streams)
            values = self.objective.values(output, target.repeat_interleave(eot, 0)).view(-1, eot).mean(1)
            outputs = output.detach().unflatten(0, (-1, eot)).transpose(0, 1)
        return values, self.objective.broken(outputs, target, values.detach(), goal), output

    def _keep_best(self, x: Tensor, values: Tensor, broken: Tensor, rows: Tensor | None) -> None:
        best_values, best_broken = (
            part if rows is None else part[rows] for part in (self.best_values, self.best_broken)
        )
        better = torch.where(broken == best_broken, values > best_values, broken)
        if rows is not None:
            where = rows[better]
            self.best_x[where], self.best_values[where], self.best_broken[where] = (
                x[better],
                values[better],
                broken[better],
            )
            return
        self.best_x = torch.where(better.view(-1, 1, 1, 1), x, self.best_x)
        self.best_values = torch.where(better, values, self.best_values)
        self.best_broken = torch.where(better, broken, self.best_broken)
