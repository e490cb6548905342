"""What smoothing certifies of a classifier: for each image the radius within which no attack changes the answer.

After DUCD (arXiv 2408.10647), which searches the noise too: of several noises the one with the largest mean radius is
kept. Every other image chooses, the rest are reported, so that the choice flatters no figure.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import frozen, image_seed
from udc_robust.classifiers.data import LabelledImages, load_images
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier, shipped_classifiers
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import atomic_path, disk_errors, write_text
from udc_robust.grid.journal import Journal
from udc_robust.grid.tables import to_csv
from udc_robust.limits import require_memory, usable_device
from udc_robust.lock import sole_writer
from udc_robust.metrics.certificates import NOISES, lower_bound, radius
from udc_robust.portable import portable
from udc_robust.progress import progress

COLUMNS = ("noise", "sigma", "part", "image", "label", "answer", "probability", "radius", "certified")
TABLE = ("noise", "sigma", "norm", "part", "images", "accuracy", "abstained", "mean_radius", "radius", "certified")
_BATCH = 500  # noisy copies of an image at once


@dataclass(frozen=True)
class Smoothing:
    """How a classifier is smoothed and what is asked.

    Attributes:
        sigma: standard deviation of the noise in [0,1] image units.
        guesses, count: noisy answers that choose the class, and that bound its probability.
        alpha: chance that a certificate is wrong.
    """

    noise: str
    sigma: float
    norm: str = "l2"
    guesses: int = 100
    count: int = 1000
    alpha: float = 0.001

    @property
    def label(self) -> str:
        """Name in tables."""
        return f"{self.noise} {self.sigma:g}"


@dataclass(frozen=True)
class Certified:
    """What is known of one image.

    Attributes:
        answer: the class, or -1: abstained.
        probability: lower bound of that of the class under noise.
        radius: within which the answer stays, for sure but for ``alpha``.
    """

    image: str
    label: int
    answer: int
    probability: float
    radius: float

    @property
    def right(self) -> bool:
        """Whether the answer is."""
        return self.answer == self.label


def parse_smoothings(noises: str, sigmas: Sequence[float], **rest: Any) -> list[Smoothing]:
    """All pairs of noises ``gaussian,laplace`` and deviations.

    Raises:
        UserError: an unknown noise, a norm that it does not certify, or numbers out of range.
    """
    names, norm = [name.strip() for name in noises.split(",")], rest.get("norm", "l2")
    for name in names:
        if name not in NOISES:
            raise unknown_name("--noise", name, NOISES)
        if norm not in NOISES[name].radii:
            others = [other for other, found in NOISES.items() if norm in found.radii]
            mend = f"take --noise {others[0]}, or --norm {next(iter(NOISES[name].radii))}" if others else "l1 or l2"
            raise UserError(f"--norm {norm}: {name} noise certifies {', '.join(NOISES[name].radii)}; {mend}")
    for sigma in sigmas:
        if not 0 < sigma <= 10:
            raise UserError(f"--sigma {sigma:g} must be above 0, in [0,1] image units, such as 0.25")
    if not 0 < rest.get("alpha", 0.001) < 0.5:
        raise UserError(f"--alpha {rest['alpha']:g} must be a chance between 0 and 0.5, such as 0.001")
    return [Smoothing(name, sigma, **rest) for name, sigma in itertools.product(names, sigmas)]


def study(
    classifier: str, source: str, smoothings: Sequence[Smoothing], out: Path, *, side: int | None = None,
    limit: int | None = None, seed: int = 0, device: str = "cpu",
) -> tuple[Smoothing, list[dict[str, Any]]]:  # fmt: skip
    """Certify, and write ``certificates.csv`` (an image a row), ``certified.csv`` (a radius a row) and its plot.

    The same call resumes.

    Args:
        classifier: a shipped one, or a weights file.
        source: labelled images, see `classifiers.data.load_images`.

    Returns:
        The smoothing of the largest mean radius, and the rows of ``certified.csv`` on the images that did not choose.

    Raises:
        UserError: unknown names, other classes, or too few images to choose on.
    """
    usable_device(device)
    images = load_images(source, side)
    images = images if limit is None else images.spread(limit)
    if len(smoothings) > 1 and len(images) < 2:
        raise UserError("a choice between noises needs two images or more, one to choose on (`--limit`)")
    network = _load(classifier, images, device)
    require_memory(3 * _BATCH * images[0][0].numel(), f"{_BATCH} noisy copies of an image")
    with sole_writer(out, whole=False), disk_errors(out):
        found = _certified(network, classifier, images, smoothings, out, seed, device)
    choosing = len(smoothings) > 1
    parts = {"reported": slice(1 if choosing else 0, None, 2 if choosing else 1)}
    parts |= {"chosen on": slice(0, None, 2)} if choosing else {}
    mean = {s: fmean(one.radius * one.right for one in found[s][parts.get("chosen on", slice(None))]) for s in found}
    best = max(smoothings, key=lambda s: mean[s])
    rows = [row for part, rows in parts.items() for s in smoothings for row in _table(s, part, found[s][rows])]
    of_part = {one.image: part for part, rows in parts.items() for one in found[smoothings[0]][rows]}
    write_text(out / "certified.csv", to_csv(TABLE, rows))
    write_text(out / "certificates.csv", to_csv(COLUMNS, [
        {"noise": s.noise, "sigma": s.sigma, "part": of_part[one.image], "image": portable(one.image),
         "label": one.label, "answer": one.answer, "probability": one.probability, "radius": one.radius,
         "certified": one.right and one.radius > 0}
        for s in smoothings for one in found[s]
    ]))  # fmt: skip
    _plot(smoothings, [row for row in rows if row["part"] == "reported"], out / "certified.png")
    mine = ("reported", best.noise, best.sigma)
    return best, [row for row in rows if (row["part"], row["noise"], row["sigma"]) == mine]


def _load(classifier: str, images: LabelledImages, device: str) -> Classifier:
    spec = ClassifierSpec(classifier, weights=None if classifier in shipped_classifiers() else classifier)
    network = load_classifier(spec, device)
    scores = network(images.batch([0])[0].to(device)).shape[1]
    if scores != len(images.classes):
        raise UserError(f"classifier {classifier!r} answers {scores} classes, the images have {len(images.classes)}")
    return network


def _certified(
    network: Classifier, name: str, images: LabelledImages, smoothings: Sequence[Smoothing], out: Path, seed: int,
    device: str,
) -> dict[Smoothing, list[Certified]]:  # fmt: skip
    """Every image under every noise; finished ones are kept in a journal."""
    journal = Journal(out, holds={"guess": int, "hits": int})
    weights = hashlib.sha256(b"".join(t.cpu().numpy().tobytes() for t in network.state_dict().values())).hexdigest()
    found: dict[Smoothing, list[Certified]] = {s: [] for s in smoothings}
    total = len(smoothings) * len(images)
    with progress(f"certifying {name}", total) as tick, frozen(network), torch.no_grad():
        for smoothing, i in itertools.product(smoothings, range(len(images))):
            image, label = images[i]
            digest = hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16]
            unit = f"{weights[:16]}/{digest}/{images.keys[i]}/{seed}/{smoothing}"
            if unit not in journal.units:
                generator = torch.Generator().manual_seed(image_seed(seed, images.keys[i], smoothing.label))
                x = image.float().to(device) / 255
                guess = int(_votes(network, x, smoothing, smoothing.guesses, generator).argmax())
                hits = int(_votes(network, x, smoothing, smoothing.count, generator)[guess])
                journal.add(unit, guess=guess, hits=hits)
            entry = journal.units[unit]
            found[smoothing].append(certificate(smoothing, images.keys[i], label, entry["guess"], entry["hits"],
                                                image.numel()))  # fmt: skip
            tick(smoothing.label)
    return found


def _votes(network: Classifier, x: Tensor, smoothing: Smoothing, count: int, generator: torch.Generator) -> Tensor:
    """How often each class is the answer to noisy copies of an image ``(3,H,W)``."""
    votes, noise = None, NOISES[smoothing.noise]
    for first in range(0, count, _BATCH):
        rows = min(_BATCH, count - first)
        drawn = noise.draw(torch.rand((rows, *x.shape), generator=generator)).to(x.device)
        scores = network(x + smoothing.sigma * drawn)
        one = torch.bincount(scores.argmax(1), minlength=scores.shape[1])
        votes = one if votes is None else votes + one
    assert votes is not None
    return votes


def certificate(smoothing: Smoothing, image: str, label: int, guess: int, hits: int, values: int) -> Certified:
    """Cohen et al.'s CERTIFY from its two counts: the answer, or abstention where it may have no majority."""
    probability = lower_bound(hits, smoothing.count, smoothing.alpha)
    if probability <= 0.5:
        return Certified(image, label, -1, probability, 0.0)
    found = radius(smoothing.noise, smoothing.norm, probability, smoothing.sigma, values)
    return Certified(image, label, guess, probability, found)


def _table(smoothing: Smoothing, part: str, found: Sequence[Certified]) -> list[dict[str, Any]]:
    """The share of images that are certified to be right within each of nine radii."""
    best = smoothing.sigma * 4
    largest = max((one.radius for one in found), default=0.0) or best
    same = {
        "noise": smoothing.noise, "sigma": smoothing.sigma, "norm": smoothing.norm, "part": part, "images": len(found),
        "accuracy": fmean(one.right for one in found), "abstained": fmean(one.answer < 0 for one in found),
        "mean_radius": fmean(one.radius * one.right for one in found),
    }  # fmt: skip
    radii = [largest * k / 8 for k in range(9)]
    return [{**same, "radius": r, "certified": fmean(one.right and one.radius >= r for one in found)} for r in radii]


def _plot(smoothings: Sequence[Smoothing], rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Certified accuracy over the radius, a line a noise."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for smoothing in smoothings:
            mine = [row for row in rows if (row["noise"], row["sigma"]) == (smoothing.noise, smoothing.sigma)]
            axes.plot([row["radius"] for row in mine], [100 * row["certified"] for row in mine], label=smoothing.label)
        axes.set(xlabel=f"certified radius ({smoothings[0].norm}, [0,1] image units)", ylabel="certified and right (%)")
        axes.set_ylim(0, 100)
        axes.grid(color="#dddddd")
        figure.legend(loc="outside upper center", ncols=3)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)
