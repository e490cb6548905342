"""All that an attack method may ask of a victim: values and input gradients, counted, with the best image kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
        best_x, best_values: the most damaging image asked about so far, and its value.
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
        self.bad_gradients = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self._last_output: Tensor | None = None

    @torch.no_grad()
    def values(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Objective of each image: one query each. With ``rows``, ``x`` holds only those images of the batch."""
        values, _ = self._ask(x, rows, 1)
        self._meter.count(rows, backward=False)
        self._keep_best(x, values, rows)
        return values

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of each image's objective with respect to that image only."""
        return self.gradient_and_values(x)[0]

    def gradient_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and value. Weights get no gradient: a third of the backward pass is saved."""
        eot = self._chance.eot if self._chance else 1
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            values, output = self._ask(x, None, eot)
            (gradient,) = torch.autograd.grad(values.sum(), x)
        # Kept until the next call: an allocation at the top of the heap stops glibc from giving the freed activations
        # back to the system only to fetch them again in the next step.
        self._last_output = output
        x, values = x.detach(), values.detach()
        self._meter.count(None, backward=True, times=eot)
        self._keep_best(x, values, None)
        # One reduction tells both: it is 0 for a dead gradient and NaN or inf for a broken one.
        size = gradient.abs().flatten(1).sum(1)
        self.bad_gradients += ~((size > 0) & size.isfinite())
        return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0), values

    def _ask(self, x: Tensor, rows: Tensor | None, eot: int) -> tuple[Tensor, Any]:
        """Objective of each image (the mean over ``eot`` answers of a random victim), and the answers."""
        target = self._target if rows is None else self._target[rows]
        if self._chance is None or self._victim_streams is None:
            output = self._victim(x)
            return self.objective.values(output, target), output
        if self._chance.replay:
            self._victim_streams = Streams(self._chance.seeds)
        streams = self._victim_streams.of(rows).repeat(eot)
        output = self._victim(x.repeat_interleave(eot, 0), streams)
        return self.objective.values(output, target.repeat_interleave(eot, 0)).view(-1, eot).mean(1), output

    def _keep_best(self, x: Tensor, values: Tensor, rows: Tensor | None) -> None:
        if rows is not None:
            better = rows[values > self.best_values[rows]]
            chosen = values > self.best_values[rows]
            self.best_x[better], self.best_values[better] = x[chosen], values[chosen]
            return
        better = values > self.best_values
        self.best_x = torch.where(better.view(-1, 1, 1, 1), x, self.best_x)
        self.best_values = torch.where(better, values, self.best_values)
