"""The pictures that targeted attacks on restorers want: one from a file, or the restoration with a detail changed."""

from __future__ import annotations

import torch
from torch import Tensor

from udc_robust.attacks.within import check_region
from udc_robust.data.images import read_image
from udc_robust.errors import UserError
from udc_robust.grid.images import Batch
from udc_robust.tasks.restoration_schema import DETAILS, RestorationAttack


def wanted(attack: RestorationAttack, clean: Tensor) -> Tensor:
    """The picture of each image ``(B,3,H,W)`` that an attack with objective ``towards`` wants.

    Args:
        clean: ``(draws,B,3,H,W)`` the unattacked restorations.
    """
    assert attack.target is not None
    restored = clean.mean(0)
    if attack.target not in DETAILS:
        return read_image(attack.target).pixels.to(restored).expand_as(restored)
    draw = _with_a_line if attack.target == "line" else _without_detail
    return torch.stack([draw(image, attack.detail) for image in restored])


def check_wanted(attack: RestorationAttack, batch: Batch) -> None:
    """Refuse a picture or a detail that the images of a set do not fit.

    Raises:
        UserError: linear light, a picture of another size, a detail that reaches out of an image.
    """
    assert attack.target is not None
    what = f"attack {attack.label!r} on data {batch.images.label!r}"
    if batch.domain == "linear":
        raise UserError(f"{what} is towards a picture, which linear light cannot be: tone-map the data")
    for size in dict.fromkeys(batch.images.sizes):
        if attack.target not in DETAILS:
            found = tuple(read_image(attack.target).pixels.shape[-2:])
            if found != size:
                told = " and an image ".join(f"of {height}x{width}" for height, width in (found, size))
                raise UserError(f"{what}: target {attack.target} is {told}: make them one size (`crop` cuts the data)")
        if attack.detail:
            try:
                check_region(size, region=attack.detail)
            except ValueError as error:
                raise UserError(f"{what}: detail: {error}") from error


def _with_a_line(image: Tensor, detail: tuple[int, ...]) -> Tensor:
    """A line from one corner of the detail to the opposite one, two px wide: white on dark ground, black on bright."""
    top, left, height, width = detail
    drawn = image.clone()
    part = drawn[:, top : top + height, left : left + width]
    colour = float(part.mean() < 0.5)
    for step in torch.linspace(0, 1, 2 * max(height, width)).tolist():
        row, column = round(step * (height - 1)), round(step * (width - 1))
        part[:, row, column : column + 2] = colour
    return drawn


def _without_detail(image: Tensor, detail: tuple[int, ...]) -> Tensor:
    """The detail filled in smoothly from what is around it."""
    from skimage.restoration import inpaint_biharmonic

    top, left, height, width = detail
    mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    filled = inpaint_biharmonic(image.permute(1, 2, 0).double().cpu().numpy(), mask.numpy(), channel_axis=-1)
    return torch.from_numpy(filled).permute(2, 0, 1).to(image).clamp(0, 1)
