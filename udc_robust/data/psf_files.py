"""PSFs as users name them: a simulated display, a file of arrays, or a picture of a point; and what was understood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.data.images import read_image
from udc_robust.errors import unknown_name
from udc_robust.optics.psf import array_shapes, named_display, named_psf, psf_names, psf_of, read_psf
from udc_robust.optics.variation import PARAMETERS, DisplayVariation, MeasuredVariation, Variation

PICTURES = (".png", ".tif", ".tiff")


def load_psf(name: str) -> Tensor:
    """A PSF ``(3,k,k)`` by the name of a simulated display, else from a file.

    A picture is an exposure of a point, in 8 or 16 bits or float: its values are linear light as they are, without sRGB
    decoding; subtract its dark level first.

    Raises:
        UserError: see `optics.psf.read_psf`.
    """
    if name in psf_names():
        return named_psf(name)
    if Path(name).suffix.lower() in PICTURES and Path(name).is_file():
        return psf_of(read_image(name).pixels.numpy(), Path(name))
    return read_psf(name)


def variation_of(name: str, side: int = 129) -> Variation:
    """What can be off about a PSF: of a simulated display by wave optics, of any other as a picture.

    Raises:
        UserError: see `load_psf`.
    """
    display = named_display(name)
    return MeasuredVariation(load_psf(name)) if display is None else DisplayVariation(display, side)


def check_tolerances(tolerances: Mapping[str, float], variation: Variation) -> None:
    """Refuse tolerances of nothing, beyond the pupil, or of a parameter that there is not.

    Raises:
        UserError: see above.
    """
    for name, value in tolerances.items():
        if name not in PARAMETERS:
            raise unknown_name("tolerance", name, PARAMETERS)
        variation.check(name, value)


class Tolerated:
    """A display of which no two are alike."""

    def __init__(self, name: str, tolerances: Mapping[str, float]) -> None:
        """Look it up.

        Raises:
            UserError: see `load_psf` and `check_tolerances`.
        """
        self._variation, self._tolerances = variation_of(name), dict(tolerances)
        check_tolerances(tolerances, self._variation)

    @torch.no_grad()
    def drawn(self, stream: torch.Generator) -> Tensor:
        """The PSF (3,k,k) of one, each parameter drawn evenly within its tolerance."""
        share = 2 * torch.rand(len(self._tolerances), generator=stream) - 1
        off = share * torch.tensor(list(self._tolerances.values()))
        return self._variation.psf(dict(zip(self._tolerances, off, strict=True)))


def psf_told(name: str, psf: Tensor, side: int) -> list[str]:
    """What was understood of a PSF that is used on images of ``side`` px, a line each.

    Which array of a file it is and how to take another, its size, and whether it reaches further than the images.
    """
    size = psf.shape[-1]
    if name in psf_names():
        return [f"PSF {name}: a simulated display, {size} px for a view of 256 px"]
    first, *others = [f"{array} ({shape[0]} px)" for array, shape in array_shapes(name).items()] or [""]
    file = name if name.endswith((".npz", ".mat")) else name.rpartition(":")[0]
    other = others[0].partition(" ")[0] if others else ""
    chosen = f", array {first} and not {', '.join(others)}: take another as {file}:{other}" if others else ""
    lines = [f"PSF {name}{chosen}; {size} px, used at its own scale: a pixel of it is a pixel of the images"]
    if size > side:
        lines.append(f"  it is larger than the images ({side} px): light from beyond their border is guessed; "
                     "cut it, bin it, or take larger images")  # fmt: skip
    return lines
