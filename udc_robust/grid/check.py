"""Everything of a run that can fail, tried on one image before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from udc_robust.attacks import THREATS, Streams, answers, attack, frozen, objective
from udc_robust.defences.defence import fresh
from udc_robust.errors import UserError
from udc_robust.grid.cells import Cell
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.named import is_path
from udc_robust.grid.network import Network
from udc_robust.grid.plan import Networks
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.task import Task
from udc_robust.grid.victims import Victim, build_victims
from udc_robust.limits import gigabytes, require_memory
from udc_robust.networks.constant import refuse_constant
from udc_robust.networks.user_code import guarded, is_ours
from udc_robust.processes import is_main
from udc_robust.progress import doing, note, progress

_ENOUGH = 256  # pixels
_IMAGES = 14  # the images themselves, their truths, starts, best ones, changes, gradients and answers
_JUDGED = 100  # bytes a pixel of what figures are computed of, in double precision
_BACKWARD = 1.25  # going back takes a quarter more than what was kept: 5.2 GiB where 3.9 were, mini NAFNet at 768 px


@torch.no_grad()
def check_victims(task: Task, config: RunConfig, sets: Sequence[Images], networks: Networks, sources: Networks) -> None:
    """Let every network, and every victim whose defence is not to be tuned, answer to one image, before any work.

    What the user's own attacks, objectives and metrics do is tried as well, and that sources answer as victims do.

    Raises:
        UserError: a defence that cannot be built, a network that does not take the images, or an answer that is not
            finite or not what the task needs; a fault in the user's code.
    """
    untuned = config.model_copy(update={"defences": [block for block in config.defences if block.match is None]})
    victims = {
        domain: build_victims(untuned, list(mine.values()), {}, sources.get(domain, {}))
        for domain, mine in networks.items()
    }
    total = sum(len(networks[images.domain]) + len(victims[images.domain]) for images in sets)
    every: list[Cell] = []
    with progress("checking", total, brief=True, quiet=not is_main()) as tick:
        for images in sets:
            batch = Batch.load(images, [0], config.device, config.seed, 1).captured()
            cells = [cell for victim in victims[images.domain] for cell in victim.cells]
            met = [cell for cell in cells if images.meets(cell.attack.label)]
            for cell in met:
                _check_options(cell, images.domain, images.sizes)
            every += met
            sloped = any(cell.attack.chosen.access == "gradient" for cell in met)
            for network in networks[images.domain].values():
                doing(f"{network.name} on {images.label}")
                answer = _check_network(task, config, network, batch, sloped)
                tick()
            for source in sources.get(images.domain, {}).values():
                _check_source(task, config, batch, source, answer)
            for victim in victims[images.domain]:
                doing(f"{victim.label} on {images.label}")
                _check_defence(victim, batch)
                tick()
        _check_methods(every)


def _check_network(task: Task, config: RunConfig, network: Network, batch: Batch, sloped: bool) -> Tensor:
    """Its answer to the whole image, which may be large; whether it looks and has a slope is seen on the middle."""
    what = f"{task.network} {network.name!r}"
    part = _middle(network, batch.x)
    if sloped and part is not batch.x and batch.x.device.type == "cpu":
        _check_a_gradient_fits(network, part, batch, config.batch_size, what)
    answer = _answer(network, batch, what, network.origin)
    task.check(config, batch, network, answer)
    with frozen(network):
        refuse_constant(partial(answers, network, seeds=[0]), part, answers(network, part, [0]), what, network.origin)
    if sloped:
        _check_it_has_a_slope(network, part, what)
    _check_measures(task, config, batch, answer)
    return answer


def _middle(network: Network, x: Tensor) -> Tensor:
    """The middle of a large image, where the network takes images of another size."""
    top, left = (max(side - _ENOUGH, 0) // 2 for side in x.shape[-2:])
    part = x[..., top : top + _ENOUGH, left : left + _ENOUGH]
    if part.shape == x.shape:
        return x
    try:
        with frozen(network):
            answers(network, part, [0])
    except RuntimeError:
        return x
    return part


def _check_a_gradient_fits(network: Network, part: Tensor, batch: Batch, batch_size: int, what: str) -> None:
    """Refuse large images whose gradient would not fit into memory: the system would kill the run without a word.

    What the middle keeps for its gradient is what each pixel of the whole image keeps, at least.
    """
    kept: dict[int, int] = {}

    def counted(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), frozen(network), torch.autograd.graph.saved_tensors_hooks(counted, lambda tensor: tensor):
        answer = answers(network, part.detach().requires_grad_(True), [0])  # holds what was kept while it is counted
    height, width = max(batch.images.sizes, key=math.prod)
    count = min(batch_size, sum(size == (height, width) for size in batch.images.sizes))
    tiles = getattr(network, "tiles", None)
    at_once = height * width if tiles is None else min(height, tiles.side) * min(width, tiles.side)
    activations = _BACKWARD * sum(kept.values()) * count * at_once / math.prod(part.shape[-2:])
    needed = activations + _IMAGES * 4 * count * part.shape[1] * height * width
    del answer
    images = f"{count} image{'s' if count > 1 else ''} of {height} x {width} px"
    mend = "lower `batch_size`, set or lower `tile`, or `crop` the data, or attack with square"
    require_memory(needed, f"a gradient of {what} for {images} ({mend})", bytes_each=1)
    if tiles is not None and tiles.needed(batch.x):
        whole = needed + _JUDGED * count * height * width + psutil.Process().memory_info().rss
        ours = f"up to {gigabytes(whole)} GiB in all, {gigabytes(needed)} of it for a gradient"
        note(f"memory for {what} on {images}: {ours}")


def _check_defence(victim: Victim, batch: Batch) -> None:
    if victim.defence is not None:
        defended = fresh if is_ours(victim.defence) else guarded(fresh, f"defence {victim.block.label!r}")
        made = defended(victim.defence, batch.x, Streams([0]))
        if made.shape != batch.x.shape:
            shapes = [tuple(one.shape) for one in (made, batch.x)]
            raise UserError(
                f"defence {victim.block.label!r} makes {shapes[0]} of images {shapes[1]}: they must keep their shape"
            )
        if not made.isfinite().all():
            raise UserError(f"defence {victim.block.label!r} makes NaN or infinity: check its options and files")
        _answer(victim.deployed, batch, f"victim {victim.label!r}", victim.network.origin)


def _check_source(task: Task, config: RunConfig, batch: Batch, source: Network, of_victims: Tensor) -> None:
    """Refuse a source that is no stand-in for the victims."""
    what = f"source {source.name!r}"
    answer = _answer(source, batch, what, source.origin)
    if answer.shape != of_victims.shape:
        theirs, ours = (tuple(shape[2:]) for shape in (answer.shape, of_victims.shape))
        raise UserError(f"{what} answers with {theirs} an image where the victims answer with {ours}: leave it out")
    task.check(config, batch, source, answer)
    part = _middle(source, batch.x)
    with frozen(source):
        refuse_constant(partial(answers, source, seeds=[0]), part, answers(source, part, [0]), what, source.origin)
    _check_it_has_a_slope(source, part, what)


def _check_options(cell: Cell, domain: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Options must be possible at each eps and for all images of a data block."""
    try:
        cell.threat(domain)
        options = cell.attack.options_at(cell.eps)
        for size in dict.fromkeys(sizes):
            cell.attack.chosen.fits(size, options)
    except ValueError as error:
        raise UserError(f"attack {cell.attack.label!r} at eps {cell.eps:g}: {error}") from error


def _check_measures(task: Task, config: RunConfig, batch: Batch, answer: Tensor) -> None:
    """Try the user's metrics and objectives on an answer.

    Raises:
        UserError: a metric that has the name of a column that is there without it, or either of them fails.
    """
    ours = {*task.names, *task.results, *task.summary, *task.also, *(metric.name for metric in task.metrics(config)[0])}
    for metric in (block.found() for block in config.metrics):
        if metric.name in ours:
            raise UserError(f"metric {metric.name!r} is a column of ours: give your metric another `name`")
    target = answer[0] * 0.9 if batch.target is None else batch.target
    for metric in (block.found() for block in config.metrics):
        if min(batch.x.shape[-2:]) >= metric.smallest_side:
            metric.draws(answer.double() if batch.target is None or batch.target.ndim > 1 else answer, target)
    for block in config.attacks:
        if not is_path(block.objective):
            continue
        climbed, _ = task.goal(block, batch, answer)
        with torch.enable_grad():
            values = climbed.values(answer[0].detach().requires_grad_(True), target)
        if not values.isfinite().all():
            raise UserError(
                f"objective {block.objective!r} makes NaN or infinity of the unattacked image: check its code"
            )
        if not values.requires_grad:
            raise UserError(
                f"objective {block.objective!r} has no gradient (`torch.no_grad`, `item` or `detach` in its code?)"
            )


def _check_methods(met: Sequence[Cell]) -> None:
    """Try the user's attacks, each with its options on a small image and a network that only darkens."""
    x = torch.linspace(0.2, 0.8, 3 * 16 * 16).view(1, 3, 16, 16)
    tried: set[tuple[str, str]] = set()
    for cell in met:
        name = (cell.attack.label, cell.attack.norm)
        if is_path(cell.attack.method) and name not in tried:
            tried.add(name)
            threat = THREATS[cell.attack.norm](cell.eps)
            attack(
                lambda x: 0.9 * x, x, objective("mse"), threat, cell.attack.chosen, seeds=[0],
                **cell.attack.options_at(cell.eps),
            )  # fmt: skip


def _check_it_has_a_slope(network: Network, x: Tensor, what: str) -> None:
    """Refuse a network whose answer has no gradient, when the attacks climb one."""
    with torch.enable_grad(), frozen(network):
        sloped = answers(network, x.detach().requires_grad_(True), [0]).requires_grad
    if not sloped:
        raise UserError(
            f"{what} answers without a gradient (`torch.no_grad` or `detach` in its code?): "
            "attack it with simba or square, or let the gradient through"
        )


def _answer(victim: Any, batch: Batch, what: str, origin: str) -> Tensor:
    """The answer ``(1,B,...)`` to a batch."""
    try:
        with frozen(victim):
            answer = answers(victim, batch.x, [0])
    except RuntimeError as error:
        size = f"{batch.x.shape[-2]} x {batch.x.shape[-1]} px"
        raise UserError(f"{what} does not take the images of {batch.images.label}, {size}: {error}") from error
    if not answer.isfinite().all():
        raise UserError(f"{what} answers with NaN or infinity: check {origin}")
    return answer
