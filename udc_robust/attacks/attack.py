"""The one way to attack: everything that must never vary between methods happens here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from udc_robust.attacks.meter import Meter
from udc_robust.attacks.methods import METHODS, Method
from udc_robust.attacks.objectives import Objective
from udc_robust.attacks.oracle import Chance, Oracle, Victim, answers
from udc_robust.attacks.sources import SourceOracle, Sources
from udc_robust.attacks.streams import Streams, image_seed
from udc_robust.attacks.threat import Threat
from udc_robust.attacks.within import on_8_bits


class Milestone(NamedTuple):
    """The best that a query attack had after so many queries.

    Attributes:
        x: ``(B,C,H,W)`` the images, in the budget and rounded as the final ones are.
        reached: ``(B,)`` which images were asked about so often; of the others ``x`` holds the final ones.
    """

    queries: int
    x: Tensor
    reached: Tensor


@dataclass(frozen=True)
class Result:
    """What an attack did to each image of a batch.

    Attributes:
        x_adv: ``(B,C,H,W)`` the attacked images: inside the ball and the box, on 8-bit levels when asked.
        clean_outputs, adv_outputs: ``(draws,B,...)`` the deployed victim's answers to ``x`` and ``x_adv``.
        clean_values, adv_values: ``(B,)`` objective before and after, re-scored on ``x_adv`` as it is (mean of draws).
        success: ``(B,)`` whether the image counts as broken (``objective.goal``).
        linf, l2: ``(B,)`` distances of ``x_adv`` from ``x``.
        bad_gradients: ``(B,)`` how many gradients were all zero or not finite.
        meter: forwards, backwards and queries of the method itself (not of the scoring before and after).
        milestones: of a query method, on its way.
    """

    x_adv: Tensor
    clean_outputs: Tensor
    adv_outputs: Tensor
    clean_values: Tensor
    adv_values: Tensor
    success: Tensor
    linf: Tensor
    l2: Tensor
    bad_gradients: Tensor
    meter: Meter
    milestones: Sequence[Milestone] = ()

    @property
    def clean_output(self) -> Tensor:
        """The first answer to ``x``: the only one of a deterministic victim."""
        return self.clean_outputs[0]

    @property
    def adv_output(self) -> Tensor:
        """The first answer to ``x_adv``."""
        return self.adv_outputs[0]


def attack(
    victim: Victim, x: Tensor, objective: Objective, threat: Threat, method: str | Method, *,
    target: Tensor | None = None, seeds: Sequence[int], draws: int = 1, eot: int = 1, known_seed: bool = False,
    judge_seeds: Sequence[int] | None = None, clean_outputs: Tensor | None = None, round_8_bit: bool = True,
    sources: Sources | None = None, start: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    """Attack a batch of images.

    Args:
        victim: the network, with any defence in front, as the attacker sees it; image or scores out.
        x: ``(B,C,H,W)`` images inside the threat's box.
        target: ground truth or labels; None means the victim's own clean output.
        method: a name of ``METHODS``, or a `Method`; ``options`` are its keyword options.
        seeds: one per image: the result for an image depends on its own seed only.
        draws: answers of a random victim that are judged.
        judge_seeds: of those draws, one per image; None: made of ``seeds``. The attacker does not know them.
        eot: answers of a random victim averaged for each gradient.
        known_seed: True gives the attacker the seeds of the judge, who always makes the same draw: no secret is left.
        clean_outputs: the judged answers to ``x``, where they are known already; None: they are computed.
        round_8_bit: score the attack that a PNG can hold.
        sources: networks that the attacker of a query method has; their gradients are no queries.
        start: ``(B,C,H,W)`` where to begin, brought into the budget; None: wherever the method does.

    Raises:
        ValueError: images outside the box or not finite, a method that is not defined for the norm, a seed missing,
            labels or scores that the objective is not defined for, sources missing, or sources or a start without use.
    """
    chosen = METHODS[method] if isinstance(method, str) else method
    _check(x, threat, chosen.norms, seeds, chosen.name)
    chosen.fits((x.shape[-2], x.shape[-1]), options)
    _check_sources(chosen, sources)
    _check_start(chosen, start)
    meter = Meter(len(x))
    draws = 1 if known_seed else draws
    judge_seeds = [image_seed(seed, "judge") for seed in seeds] if judge_seeds is None else judge_seeds
    chance = Chance(judge_seeds if known_seed else [image_seed(seed, "victim") for seed in seeds], eot, known_seed)
    with frozen(victim), frozen(sources.ensemble) if sources else contextlib.nullcontext():
        with torch.no_grad():
            clean_outputs = answers(victim, x, judge_seeds, draws) if clean_outputs is None else clean_outputs[:draws]
            target = objective.own_target(clean_outputs) if target is None else target
            objective.check(clean_outputs[0], target)
            chosen.takes(clean_outputs[0])
            clean_values = _values(objective, clean_outputs, target)
        streams = Streams(seeds)
        oracle = Oracle(
            victim, objective, x, target, objective.goal(clean_values), meter, streams, chance,
            flat=objective.flat(clean_outputs, target), answers_only=chosen.access == "query",
            source=None if sources is None else SourceOracle(sources, x, streams, meter), start=start,
        )  # fmt: skip
        x_adv = _deliverable(_made(chosen, oracle, x, threat, options), x, threat, round_8_bit)
        with torch.no_grad():
            adv_outputs = answers(victim, x_adv, judge_seeds, draws)
            adv_values = _values(objective, adv_outputs, target)
    delta = (x_adv - x).flatten(1)
    return Result(
        x_adv=x_adv, clean_outputs=clean_outputs, adv_outputs=adv_outputs, clean_values=clean_values,
        adv_values=adv_values, success=objective.broken(adv_outputs, target, adv_values, oracle.goal),
        linf=delta.abs().amax(1), l2=torch.linalg.vector_norm(delta, dim=1), bad_gradients=oracle.bad_gradients,
        meter=meter, milestones=_milestones(oracle, x_adv, x, threat, round_8_bit),
    )  # fmt: skip


def _made(chosen: Method, oracle: Oracle, x: Tensor, threat: Threat, options: Mapping[str, Any]) -> Tensor:
    """What a method makes. It is never trusted: it is brought into the budget, and scored again."""
    with oracle.meter.running(x.device):
        candidate = chosen.run(oracle, x, threat, **options)
    return (oracle.best_x if chosen.keeps_best else candidate).detach()


def _deliverable(x_adv: Tensor, x: Tensor, threat: Threat, round_8_bit: bool) -> Tensor:
    """Images within the budget, on 8-bit levels where asked."""
    x_adv = threat.project(x, x_adv)
    return on_8_bits(threat, x, x_adv) if round_8_bit else x_adv


def _milestones(oracle: Oracle, x_adv: Tensor, x: Tensor, threat: Threat, round_8_bit: bool) -> list[Milestone]:
    """What a query method had on its way, as it would have delivered it."""
    found = []
    for queries, images in sorted(oracle.milestones.items()):
        best, reached = x_adv.clone(), torch.zeros(len(x), dtype=torch.bool)
        for row, image in images.items():
            best[row], reached[row] = image, True
        found.append(Milestone(queries, _deliverable(best, x, threat, round_8_bit), reached))
    return found


def transfer(
    victim: Victim, x: Tensor, objective: Objective, threat: Threat, method: str | Method, sources: Sources, *,
    target: Tensor | None = None, seeds: Sequence[int], **options: Any,
) -> Result:  # fmt: skip
    """Attack sources, and judge what was made on a victim that nobody asked; see `attack`."""
    result = attack(
        sources.ensemble, x, sources.objective, threat, method, target=sources.target, seeds=seeds, **options
    )
    result.meter.queries.zero_()
    judge_seeds = [image_seed(seed, "judge") for seed in seeds]
    with torch.no_grad(), frozen(victim):
        clean_outputs = answers(victim, x, judge_seeds)
    return rejudged(result, victim, objective, target=target, judge_seeds=judge_seeds, clean_outputs=clean_outputs)


def rejudged(
    result: Result,
    deployed: Victim,
    objective: Objective,
    *,
    target: Tensor | None,
    judge_seeds: Sequence[int],
    clean_outputs: Tensor,
) -> Result:
    """What an attack that was made on one victim does to another: a transfer. Costs are those of making it.

    Args:
        target: see `attack`.
        judge_seeds: of the draws that are judged.
        clean_outputs: ``(draws,B,...)`` answers of ``deployed`` to the clean images, for the same seeds.
    """
    with frozen(deployed), torch.no_grad():
        target = objective.own_target(clean_outputs) if target is None else target
        adv_outputs = answers(deployed, result.x_adv, judge_seeds, len(clean_outputs))
    clean_values, adv_values = (_values(objective, outputs, target) for outputs in (clean_outputs, adv_outputs))
    return replace(
        result, clean_outputs=clean_outputs, adv_outputs=adv_outputs, clean_values=clean_values, adv_values=adv_values,
        success=objective.broken(adv_outputs, target, adv_values, objective.goal(clean_values)),
    )  # fmt: skip


def _values(objective: Objective, outputs: Tensor, target: Tensor) -> Tensor:
    return torch.stack([objective.values(output, target) for output in outputs]).mean(0)


def _check(x: Tensor, threat: Threat, norms: tuple[str, ...], seeds: Sequence[int], method: str) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"images must be floating point (B,C,H,W), not {x.dtype} {tuple(x.shape)}")
    if len(seeds) != len(x):
        raise ValueError(f"{len(x)} images need {len(x)} seeds, not {len(seeds)}")
    if threat.norm not in norms:
        raise ValueError(f"{method} is defined for {', '.join(norms)}, not for {threat.norm}")
    if not threat.eps >= 0:
        raise ValueError(f"eps must be 0 or more, not {threat.eps}")
    low, high = float(x.min()), float(x.max())
    slack = 1e-6 * (threat.high - threat.low)  # a resize or a tone map may miss the box by some ulps
    if not (low >= threat.low - slack and high <= threat.high + slack):  # NaN fails every comparison
        raise ValueError(f"images must be finite and in [{threat.low}, {threat.high}], not in [{low}, {high}]")


def _check_sources(method: Method, sources: Sources | None) -> None:
    if sources is not None and not method.sources:
        raise ValueError(f"{method.name} makes nothing of sources: leave them out")
    if sources is None and method.sources == "prior":
        raise ValueError(f"{method.name} needs sources: networks whose gradient is its prior")


def _check_start(method: Method, start: Tensor | None) -> None:
    if start is not None and not (method.warm or method.sources):
        raise ValueError(f"{method.name} begins where it does: leave out the start")


@contextlib.contextmanager
def frozen(victim: Victim) -> Iterator[None]:
    """Evaluation mode and weights without gradients; every flag is put back as it was, submodule by submodule."""
    if not isinstance(victim, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in victim.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in victim.parameters()]
    try:
        victim.eval()
        for parameter, _ in needs:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in needs:
            parameter.requires_grad_(requires_grad)
