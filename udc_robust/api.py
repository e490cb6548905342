"""The public face in Python: attack tensors, measure a network on images, load what ships.

In a notebook::

    import udc_robust

    restorer = udc_robust.load_restorer("nafnet_mini")
    result = udc_robust.attack(restorer, captures, truths, method="pgd", eps=4 / 255)
    result.x_adv, result.adv_output
    udc_robust.benchmark(my_network, images="captures", truths="clean").report("mine.html")
"""

from __future__ import annotations

import atexit
import csv
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from udc_robust.attacks import THREATS, Method, Result, Sources, image_seed, objective, transfer
from udc_robust.attacks import attack as attack_core
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec
from udc_robust.classifiers.zoo import load_classifier as load_from_zoo
from udc_robust.config_file import check_config, number
from udc_robust.errors import UserError, unknown_name
from udc_robust.grid.named import find_method
from udc_robust.grid.run import run as run_task
from udc_robust.grid.schema import RunConfig
from udc_robust.report.comparison import Comparison, comparisons, rows
from udc_robust.report.run_folder import read_run
from udc_robust.restorers.zoo import Restorer, RestorerSpec
from udc_robust.restorers.zoo import load_restorer as load_restorer_from_zoo
from udc_robust.tasks import TASKS, load_run_config, task_of, write_report


def attack(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor | None = None,
    *,
    method: str | Callable[..., Tensor] = "pgd",
    norm: str = "linf",
    eps: float | str = 4 / 255,
    loss: str | None = None,
    seed: int = 0,
    round_8_bit: bool = True,
    sources: Sequence[Callable[[Tensor], Tensor]] | None = None,
    **options: Any,
) -> Result:
    """Attack images with a network, a restorer or a classifier.

    Args:
        network: images ``(B,3,H,W)`` in [0,1] in; images, or scores ``(B,K)``, out.
        x: the images.
        target: ground truths ``(B,3,H,W)`` or labels ``(B,)``; None: the network's own clean answer.
        method: a name of ``udc_robust.METHODS``, ``file.py:function``, or a function itself.
        eps: as a number or as people write it, ``"4/255"``; L2 budgets are those of the whole image. A minimum-norm
            method (``cw``, ``ddn``) searches within it; ``float("inf")`` leaves it free.
        loss: what to climb; None: ``mse`` for images, ``margin`` for labels.
        round_8_bit: whether the attacked images lie on 8-bit levels, as a PNG holds them.
        sources: networks that the attacker has instead of this one: a gradient method is made on them (on their mean
            objective) and judged here, a transfer; a query method begins with them.
        options: of the method.

    Raises:
        UserError: an unknown method or norm. ValueError: images outside [0,1], or a target that does not fit.
    """
    if norm not in THREATS:
        raise UserError(f"norm {norm!r} is none of {', '.join(THREATS)}")
    chosen = find_method(method) if isinstance(method, str) else getattr(method, "method", None) or Method.of(method)
    labels = target is not None and not target.is_floating_point()
    goal = objective(loss or ("margin" if labels else "mse"))
    seeds = [image_seed(seed, str(i)) for i in range(len(x))]
    threat = THREATS[norm](float(number(eps)))
    settings: dict[str, Any] = {"seeds": seeds, "round_8_bit": round_8_bit, **options}
    others = Sources.of(sources, goal, target) if sources else None
    if others is None or chosen.access != "gradient":
        return attack_core(network, x, goal, threat, chosen, target=target, sources=others, **settings)
    return transfer(network, x, goal, threat, chosen, others, target=target, **settings)


def load_restorer(name: str, domain: str = "tonemapped", **spec: Any) -> Restorer:
    """A restorer by name (``udc-robust models``), by file of weights, or by path of one's own class.

    Args:
        domain: colour domain of the images that it is to take: ``srgb``, ``tonemapped`` or ``linear``.
        spec: ``network``, ``options``, ``weights``, see `RestorerSpec`.

    Raises:
        UserError: an unknown name, weights that do not fit.
    """
    return load_restorer_from_zoo(RestorerSpec(name, **spec), domain)


def load_classifier(name: str, **spec: Any) -> Classifier:
    """A classifier by name, by file of weights, or by path of one's own class; ``spec``: see `ClassifierSpec`.

    Raises:
        UserError: an unknown name, weights that do not fit.
    """
    return load_from_zoo(ClassifierSpec(name, **spec))


def evaluate(config: Mapping[str, Any] | str | Path, out: Path | str | None = None) -> Benchmark:
    """Run or resume a grid, as ``udc-robust evaluate`` does.

    Args:
        config: a YAML file, or its values.
        out: the run's folder; None: what the config says, or ``runs/NAME``.

    Raises:
        UserError: a mistake in the config, bad data or weights, or ``out`` holds another run.
    """
    checked: RunConfig
    if isinstance(config, Mapping):
        checked = check_config(config, task_of(dict(config)).schema, "config")
    else:
        checked = load_run_config(config)
    folder = Path(out or checked.out or Path("runs") / checked.name)
    run_task(TASKS[checked.task], checked, folder)
    return Benchmark(folder)


@dataclass(frozen=True)
class Benchmark:
    """A finished run.

    Attributes:
        folder: with its tables, attacked images and config.
    """

    folder: Path

    @property
    def comparisons(self) -> list[Comparison]:
        """What each victim holds, by data block and family."""
        return comparisons(list(read_run(self.folder, TASKS).panels()))

    @property
    def table(self) -> list[dict[str, Any]]:
        """What each victim holds at each budget: the rows of ``report.defences.csv``."""
        return rows(self.comparisons)

    def frame(self) -> Any:
        """The rows of ``results.csv`` as a pandas data frame; pandas is not a dependency of ours.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError("a data frame needs pandas: pip install pandas, or read results.csv") from error
        return pandas.read_csv(self.folder / "results.csv")

    def results(self) -> Iterator[dict[str, str]]:
        """The rows of ``results.csv``, one an image and cell."""
        with open(self.folder / "results.csv", newline="", encoding="utf-8") as handle:
            yield from csv.DictReader(handle)

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML report; None: ``report.html`` in the folder."""
        return write_report([self.folder], None if path is None else Path(path))


def benchmark(
    network: str | nn.Module,
    images: Path | str | None = None,
    truths: Path | str | None = None,
    *,
    task: str = "restoration",
    preset: str | None = None,
    out: Path | str | None = None,
    **config: Any,
) -> Benchmark:
    """Attack a network on images and keep the run.

    Args:
        network: a name, a file of weights, or a module that takes images ``(B,3,H,W)`` in [0,1].
        images: a folder of captures, or the source of labelled images; None: those that are built in.
        truths: folder of the captures' ground truths.
        task: ``restoration`` or ``classification``.
        preset: of attacks, see `grid.presets`; None: ``standard``, or only the ``attacks`` of ``config``.
        out: folder to keep the run in; None: a temporary one, which lives as long as the process.
        config: more keys of a run's config, for example ``defences`` or ``eps``.

    Raises:
        UserError: an unknown task; see `evaluate`.
    """
    if task not in _MEASURED:
        raise unknown_name("task", task, _MEASURED)
    chosen, label = TASKS[task], network if isinstance(network, str) else type(network).__name__
    values = {
        "task": task, "name": "benchmark", "data": _data(task, images, truths), chosen.schema.network_key: [label],
        "preset": preset, **config,
    }  # fmt: skip
    if not isinstance(network, str):
        own = lambda settings, domain: {label: _wrapped(settings, label, network, domain)}  # noqa: E731
        others = chosen.load  # sources
        chosen = replace(
            chosen, load=lambda settings, domain: (
                own if [block.name for block in settings.networks] == [label] else others
            )(settings, domain),
        )  # fmt: skip
    checked = check_config(values, chosen.schema, "benchmark")
    folder = Path(out) if out is not None else _temporary()
    run_task(chosen, checked, folder)
    return Benchmark(folder)


_MEASURED = ("restoration", "classification")
"""Tasks of one network and its images; a detector needs clean ones too, which a config names."""


def _data(task: str, images: Path | str | None, truths: Path | str | None) -> dict[str, Any]:
    """The data block that a folder, or none, means."""
    if task == "classification":
        return {"source": "digits:test" if images is None else str(images)}
    if images is None:
        return {"kind": "embedded"}
    return (
        {"kind": "folder", "lq": str(images)}
        if truths is None
        else {"kind": "pairs", "lq": str(images), "gt": str(truths)}
    )


def _wrapped(settings: Any, name: str, network: nn.Module, domain: str) -> Restorer | Classifier:
    """A module of the user's session, as deployed; its weights are told by their hash."""
    found = hashlib.sha256()
    for key, tensor in network.state_dict().items():
        found.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    origin = f"in memory, sha256 {found.hexdigest()[:16]}"
    if settings.task == "classification":
        return Classifier(name, network, trained=True, origin=origin).eval()
    restorer = Restorer(name, network, domain=domain, network_domain=None, trained=True, origin=origin).eval()
    return restorer.in_tiles(settings.tile, settings.overlap)


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="udc_robust_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "run"
