"""What an attack method may ask of a victim: input gradients, and in an evaluation values, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from udc_robust.attacks.meter import Meter
from udc_robust.attacks.objectives import Objective
from udc_robust.attacks.streams import Streams

if TYPE_CHECKING:
    from udc_robust.attacks.sources import SourceOracle

Victim = Callable[..., Tensor]
"""Images in, images or scores out. A random one says so (``random = True``) and is called with `Streams` as well."""

Around = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
"""How an attack differentiates the victim otherwise than as it is: ``(ask, images, targets) -> answers``."""


_MILESTONES = torch.tensor([digit * 10**power for power in range(1, 6) for digit in (1, 2, 5)])
"""Numbers of queries at which the best image so far is kept."""


@dataclass(frozen=True)
class Chance:
    """What an attacker makes of a random victim; a deterministic one ignores it.

    Attributes:
        seeds: of the victim's randomness as the attacker simulates it, one an image.
        eot: answers averaged for each gradient, as rows of one batch (Athalye et al. 2018, "EOT").
        replay: True when ``seeds`` are the deployed ones: the attacker meets the same draw in every call, and has
            nothing to average.
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


class GradientOracle:
    """A victim and an objective seen through one image batch, as their gradient alone: what a training needs.

    Attributes:
        place: top, left, height and width in px of all that an attack changes; None: anything. Elsewhere the gradient
            of a victim that goes through large images part by part is 0.
    """

    def __init__(
        self, victim: Victim, objective: Objective, target: Tensor, streams: Streams, chance: Chance | None = None
    ) -> None:
        self._victim, self.target = victim, target
        self._chance = chance if getattr(victim, "random", False) else None
        self._victim_streams = Streams(self._chance.seeds) if self._chance else None
        self.objective, self.streams = objective, streams
        self.repeats = not getattr(victim, "random", False)  # the same images get the same gradient again
        self.place: tuple[int, ...] | None = None
        self._members = getattr(victim, "members", 1)  # networks that answer in one call
        self._last_output: Tensor | None = None

    def gradient(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Gradient of each image's objective with respect to that image only; 0 where it is not finite.

        With ``rows``, ``x`` holds only those images of the batch.
        """
        return _finite(self._slope(x, rows)[0])

    def _slope(
        self, x: Tensor, rows: Tensor | None = None, around: Around | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient as it is, the values, and the answers. Weights get no gradient: a third of the backward."""
        by_parts = getattr(self._victim, "by_parts", None)
        if by_parts is not None and around is None and getattr(self.objective, "pixelwise", False):
            target = self.target if rows is None else self.target[rows]
            known = self._last_output if rows is None else None
            found = by_parts(x.detach(), target, self.objective.values, self.place, known)
            self._last_output = found.output if rows is None else None
            return found.gradient, found.values, found.output[None]
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            values, outputs, output = self._ask(x, rows, self._eot, around)
            (gradient,) = torch.autograd.grad(values.sum(), x)
        # Kept until the next call: an allocation at the top of the heap stops glibc from giving the freed activations
        # back to the system only to fetch them again in the next step.
        self._last_output = output
        return gradient, values.detach(), outputs

    @property
    def _eot(self) -> int:
        return self._chance.eot if self._chance and not self._chance.replay else 1

    def _ask(
        self, x: Tensor, rows: Tensor | None, eot: int, around: Around | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective of each image (the mean over ``eot`` answers of a random victim), the answers, also as one batch.

        The answers ``(eot,B,...)`` are detached; the batch of them is as the victim gave it.
        """
        target = self.target if rows is None else self.target[rows]
        if self._chance is None or self._victim_streams is None:
            output = self._victim(x) if around is None else around(self._victim, x, target)
            return self.objective.values(output, target), output.detach()[None], output
        if self._chance.replay:
            self._victim_streams = Streams(self._chance.seeds)
        streams = self._victim_streams.of(rows).repeat(eot)
        x, target = x.repeat_interleave(eot, 0), target.repeat_interleave(eot, 0)
        output = (
            self._victim(x, streams)
            if around is None
            else around(lambda images: self._victim(images, streams), x, target)
        )
        values = self.objective.values(output, target).view(-1, eot).mean(1)
        return values, output.detach().unflatten(0, (-1, eot)).transpose(0, 1), output


class Oracle(GradientOracle):
    """All that an evaluated attack may ask: also values; counted, and with the best image kept.

    Attributes:
        meter: what the victim was asked.
        goal: ``(B,)`` objective value at which each image counts as broken.
        flat: ``(B,)`` whether the objective is at its least for the clean image, where its gradient is zero.
        best_x, best_values, best_broken: the most damaging image asked about so far, its value, and whether it counts
            as broken: one that does is better than any that does not.
        bad_gradients: ``(B,)`` how often a gradient was all zero or not finite (a red flag: masking).
        source: gradients of other networks, which the attacker has; None: he has none.
        start: ``(B,C,H,W)`` where to begin; None: wherever the method does.
        milestones: the best image so far of each row that was asked about so often, by number of queries.
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
        flat: Tensor | None = None,
        source: SourceOracle | None = None,
        answers_only: bool = False,
        start: Tensor | None = None,
    ) -> None:
        super().__init__(victim, objective, target, streams, chance)
        self.meter, self.goal, self.source, self.start = meter, goal, source, start
        self._answers_only, self.milestones = answers_only, dict[int, dict[int, Tensor]]()
        self.best_x = x.clone()
        self.best_values = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self.best_broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.bad_gradients = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.flat = torch.zeros_like(self.best_broken) if flat is None else flat

    @torch.no_grad()
    def values(self, x: Tensor, rows: Tensor | None = None, probe: bool = False) -> Tensor:
        """Objective of each image: one query each. With ``rows``, ``x`` holds only those images of the batch.

        A ``probe`` may lie outside the budget, and is never the best image.
        """
        values, outputs, _ = self._ask(x, rows, 1)
        self.meter.count(rows, backward=False, times=self._members)
        if not probe:
            self._keep_best(x, values, self._broken(outputs, values, rows), rows)
        if self._answers_only:
            self._note_milestones()
        return values

    def _note_milestones(self) -> None:
        """Keep the best image of each row that has just reached a number of queries."""
        for row in torch.isin(self.meter.queries, _MILESTONES).nonzero()[:, 0].tolist():
            self.milestones.setdefault(int(self.meter.queries[row]), {})[row] = self.best_x[row].clone()

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """The victim's answers ``(B,...)`` themselves: one query each."""
        values, outputs, output = self._ask(x, None, 1)
        self.meter.count(None, backward=False, times=self._members)
        self._keep_best(x, values, self._broken(outputs, values, None), None)
        return output

    def gradient(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Gradient of each image's objective with respect to that image only; 0 where it is not finite."""
        return self.answer(x, rows).gradient

    def answer(
        self, x: Tensor, rows: Tensor | None = None, around: Around | None = None, *, keep: bool = True
    ) -> Answer:
        """Gradient, value and success.

        Args:
            rows: the images of the batch that ``x`` holds; None: all.
            around: what is done to the images or to the victim's answers on the way.
            keep: False where that makes the value another than that of ``x``, which then is no candidate.

        Raises:
            RuntimeError: the method is one that only asks for values.
        """
        if self._answers_only:
            raise RuntimeError("a query method asked for a gradient of the victim: it has its values only")
        gradient, values, outputs = self._slope(x, rows, around)
        broken = self._broken(outputs, values, rows)
        self.meter.count(rows, backward=True, times=self._eot * self._members)
        if keep:
            self._keep_best(x.detach(), values, broken, rows)
        # One reduction tells both: it is 0 for a dead gradient and NaN or inf for a broken one.
        size = gradient.abs().flatten(1).sum(1)
        self.bad_gradients[slice(None) if rows is None else rows] += ~((size > 0) & size.isfinite())
        return Answer(_finite(gradient), values, broken)

    def _broken(self, outputs: Tensor, values: Tensor, rows: Tensor | None) -> Tensor:
        target, goal = (part if rows is None else part[rows] for part in (self.target, self.goal))
        return self.objective.broken(outputs, target, values, goal)

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


def _finite(gradient: Tensor) -> Tensor:
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
