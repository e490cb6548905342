"""The limits of the images of a set, and what they mean in words: the page beside their table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from udc_robust.tasks.limits_floor import Floor, lipschitz_floor, smoothing_ratio
from udc_robust.training.card import table


@dataclass(frozen=True)
class Limits:
    """One image: PSNR in dB, and what follows from it.

    Attributes:
        noise: under random noise of the budget.
        cap: the lower of ``brightness`` and ``smooth_field``, which a faithful restorer cannot refuse.
        faithful_cap: what the best sign of a constant shift leaves of a restorer that passes brightness on, by formula.
        undefended: under the worst of all attacks.
        kappa: in-phase gain, what the attack adds to the root of the squared error, in units of eps.
        ceiling: of the mean over two scenes of one capture, of any restorer; None where no scene is known. It and what
            follows is of the pairs of scenes, see `limits_pairs.PairFigures`.
    """

    image: str
    clean: float
    noise: float
    brightness: float
    smooth_field: float
    cap: float
    faithful_cap: float
    undefended: float
    kappa: float
    ceiling: float | None = None
    ceiling_restored: float | None = None
    ceiling_smooth: float | None = None
    reference_first: float | None = None
    reference_second: float | None = None
    reference_shown: float | None = None
    levels: float | None = None
    tight: float | None = None
    variation: float | None = None


COLUMNS = tuple(one.name for one in fields(Limits))
_NAMES = {
    "clean": "not attacked",
    "noise": "random noise of the budget",
    "brightness": "a constant shift of brightness",
    "smooth_field": "a smooth field",
    "cap": "**cap**: the worse of both on each image",
    "faithful_cap": "cap by formula, for a restorer that passes brightness on",
    "undefended": "**undefended**: the worst attack on each image",
    "ceiling": "**ceiling** of any restorer, over two scenes of one capture: no more total variation",
    "ceiling_restored": "ceiling, where this restorer does as well on the second scene as on the first",
    "ceiling_smooth": "ceiling, where the scenes differ smoothly only",
    "reference_first": "this restorer on the first scene of each pair, not attacked",
    "reference_second": "on the second scene, not attacked",
    "reference_shown": "on what is shown for both",
}


def means(found: Sequence[Limits]) -> dict[str, float | None]:
    """Of every column over the images; None where a column is not known of all."""
    names = COLUMNS[1:]
    columns = {name: [getattr(one, name) for one in found] for name in names}
    return {name: None if None in values else fmean(values) for name, values in columns.items()}


def sentence(found: Sequence[Limits], eps: str, restorer: str) -> str:
    """All of it in one sentence."""
    mean = means(found)
    cap, undefended, ceiling = mean["cap"], mean["undefended"], mean["ceiling"]
    assert cap is not None and undefended is not None
    told = (
        f"At {eps} a restorer that passes brightness on keeps about {cap:.1f} dB at most on these {len(found)} images; "
        f"{restorer} keeps {undefended:.1f} of {mean['clean']:.1f} dB, so {cap - undefended:.1f} dB can be closed"
    )
    if ceiling is None:
        return f"{told}."
    if math.isinf(ceiling):
        return f"{told}; for some images no second scene that holds was found: try more `--search-steps`."
    lower = sum(one.ceiling is not None and one.ceiling < one.cap for one in found)
    return (
        f"{told}; whatever a restorer does, {ceiling:.1f} dB is its ceiling over pairs of scenes that look the same, "
        f"below the cap on {lower} of the images."
    )


def figures(found: Sequence[Limits]) -> list[tuple[str, float]]:
    """What is told of the whole set: words, and the mean over images in dB."""
    mean = means(found)
    return [(text, value) for name, text in _NAMES.items() if (value := mean[name]) is not None]


def floors(found: Sequence[Limits], eps: float, numbers: int, bound: float | None, floor: Floor | None) -> list[str]:
    """What is certain from below, a sentence a line.

    Args:
        numbers: of an image; ``bound``: of the network, see `lipschitz_bound`.
    """
    ratio = smoothing_ratio(eps, numbers)
    clean = fmean(one.clean for one in found)
    told = ["From below, RMSE attacked <= RMSE clean + L eps for a restorer that moves by L times its input at most."]
    if bound is None:
        told.append("This network has no proven L: gates, attention and normalisation have none for all inputs.")
    else:
        held = lipschitz_floor(clean, bound, eps)
        verdict = "vacuous: a grey picture has about as much" if held < 12 else "a certified floor"
        told.append(f"This network has L <= {bound:.4g}: {held:.2f} dB, {verdict}.")
    told.append(f"L = 1 would certify {lipschitz_floor(clean, 1.0, eps):.2f} dB, but undoing a blur asks for more.")
    told.append(
        f"Median smoothing certifies Euclidean balls. The radius of the one round this budget is {ratio:.0f} times "
        f"noise of 0.1: {'vacuous, no number of samples sees such a percentile' if ratio > 4 else 'large'}."
    )
    if floor is not None:
        verdict = "vacuous: a grey picture has as much" if floor.vacuous else "certified"
        told.append(
            f"For a Euclidean budget of {floor.eps:g} a whole image, and noise as large a value, the smoothed restorer "
            f"has {floor.clean:.2f} dB and never falls below {floor.certified:.2f} dB (grey pictures have "
            f"{floor.nothing:.2f} dB): {verdict}."
        )
    return told


def limits_page(found: Sequence[Limits], eps: str, restorer: str, command: str, floors_told: Sequence[str]) -> str:
    """The page: the sentence, means over the images, and what each of the three limits says and does not say."""
    rows = [[text, f"{value:.2f}"] for text, value in figures(found)]
    kappa = means(found)["kappa"]
    sections = "\n\n".join(f"## {title}\n\n{text}" for title, text in EXPLAINED)
    floor = "\n".join(f"- {line}" for line in floors_told)
    return f"""# What is possible

{sentence(found, eps, restorer)}

{table(["mean over images", "PSNR, dB"], rows)}

In-phase gain kappa, (RMSE attacked - RMSE clean) / eps: {kappa:.2f}. Figures of each image: `limits.csv`; the same with
the pictures of all pairs: `limits.html`.

{sections}

## The floor

{floor}

Made by `{command}`
"""


EXPLAINED = (
    (
        "The cap",
        """A restorer that answers a brighter capture by a brighter picture, R(y + eps) = R(y) + eps, turns its error e
into e + eps: its mean squared error is m + eps^2 + 2 eps |mean(e)| at the sign that the attacker chooses. The
measured cap is what such shifts do to this very restorer; a restorer that ignores brightness could pass it, and
would get every exposure wrong.""",
    ),
    (
        "The ceiling",
        """If the captures of two scenes differ by at most 2 eps at every value, an attacker of budget eps shows their
middle for both. Whatever a restorer R answers to it, |R - x1|^2 + |R - x2|^2 >= |x1 - x2|^2 / 2, so its mean
squared error over the two is at least |x1 - x2|^2 / 4n. Each pair was found by a search and then rendered again
and checked on the 8-bit pictures: the captures of the whole photographs differ by at most 2 eps, the scenes
differ in the crop only, and the second has no more total variation than the first. So the ceiling of each pair
is proven, for the mean over its two scenes; that the search stopped there is no proof: a better one can only
lower it. Captures are without noise, and the PSF is the one that the set was made with. Smaller sets of scenes
have higher ceilings: second scenes that this restorer restores as well as the first (to half a dB), and those
that differ smoothly, between points 8 px apart. A ceiling above the unattacked figure of an image binds
nothing: there the network is the limit and not the display.""",
    ),
    (
        "Chance",
        """A random defence is no way out: for a convex loss, such as the squared error, the loss of its mean answer is
at most the mean loss of its answers, on every attacked image (Jensen). So it is never better than its average,
which is one more fixed map under the same limits.""",
    ),
)
"""What each limit says and does not say: a title and a paragraph."""
