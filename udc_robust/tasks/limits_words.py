"""The limits of the images of a set, and what they mean in words: the page beside their table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

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
        ceiling: of the mean over two scenes of one capture, of any restorer; None where no scene is known. The others
            are of the restorer under test on that pair, see `limits_pairs.find_pairs`.
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
    reference_first: float | None = None
    reference_second: float | None = None
    reference_shown: float | None = None


COLUMNS = tuple(one.name for one in fields(Limits))
_NAMES = {
    "clean": "not attacked",
    "noise": "random noise of the budget",
    "brightness": "a constant shift of brightness",
    "smooth_field": "a smooth field",
    "cap": "**cap**: the worse of both on each image",
    "faithful_cap": "cap by formula, for a restorer that passes brightness on",
    "undefended": "**undefended**: the worst attack on each image",
    "ceiling": "**ceiling** of any restorer, over two scenes of one capture",
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


def limits_page(found: Sequence[Limits], eps: str, restorer: str, command: str) -> str:
    """The page: the sentence, means over the images, and what each of the three limits says and does not say."""
    mean = means(found)
    rows = [[text, f"{value:.2f}"] for name, text in _NAMES.items() if (value := mean[name]) is not None]
    kappa = mean["kappa"]
    return f"""# What is possible

{sentence(found, eps, restorer)}

{table(["mean over images", "PSNR, dB"], rows)}

In-phase gain kappa, (RMSE attacked - RMSE clean) / eps: {kappa:.2f}. Figures of each image: `limits.csv`, `limits.png`.

## The cap

A restorer that answers a brighter capture by a brighter picture, R(y + eps) = R(y) + eps, turns its error e into e +
eps: its mean squared error is m + eps^2 + 2 eps |mean(e)| at the sign that the attacker chooses. The measured cap is
what such shifts do to this very restorer; a restorer that ignores brightness could pass it, and would get every
exposure wrong.

## The ceiling

If the captures of two scenes differ by at most 2 eps at every value, an attacker of budget eps shows their middle for
both. Whatever a restorer R answers to it, |R - x1|^2 + |R - x2|^2 >= |x1 - x2|^2 / 2, so its mean squared error over
the two is at least |x1 - x2|^2 / 4n. Each pair was found by a search and then **rendered again and checked** on the
8-bit pictures: the captures of the whole photographs differ by at most 2 eps, the scenes differ in the crop only, and
the second has no more total variation than the first. So the ceiling of each pair is proven, for the mean over its
two scenes; that the search stopped there is no proof: a better one can only lower it. Captures are without noise, and
the PSF is the one that the set was made with. Whether the second scene is one that a camera meets is for the eye
(`pairs/*/pair.png`), and for the restorer: it should restore both about as well as usual. A ceiling above the
unattacked figure of an image binds nothing: there the network is the limit and not the display.

## The floor

From below, RMSE attacked <= RMSE clean + L eps for a restorer whose answer moves by at most L times what its input
moves by (both as root mean squares). L = 1 certifies a figure, but undoing a blur asks for gains above 1, and the
bound of an ordinary network of several layers is so large that it says nothing. Median and centre smoothing certify
L2 balls: at an Linf budget of 4/255 on 96 px such a ball has 26 times the noise of 0.1 that they add as its radius,
which is vacuous. So no floor is printed.

Made by `{command}`
"""
