"""PSF codes: the few numbers that tell DISCNet which display it looks through.

DISCNet (Feng et al., CVPR 2021) takes the first five principal components of its training PSFs. Only the code of one
PSF was published, not the basis, so codes of other displays need a basis of their own: fit it here, train or fine-tune
with it, and keep the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.errors import UserError
from udc_robust.files import atomic_path


@dataclass(frozen=True)
class PsfBasis:
    """Principal components of a set of PSFs: ``mean`` (3,k,k) and orthonormal ``components`` (n,3,k,k)."""

    mean: Tensor
    components: Tensor

    def code(self, psf: Tensor) -> Tensor:
        """Project a PSF (3,k,k) on the basis: its code (n,).

        Raises:
            UserError: the PSF has another size than the basis.
        """
        if psf.shape != self.mean.shape:
            raise UserError(f"the PSF is {tuple(psf.shape)}, the basis was made of {tuple(self.mean.shape)}: resize it")
        return torch.einsum("ncij,cij->n", self.components, psf - self.mean)

    def psf(self, code: Tensor) -> Tensor:
        """The PSF (3,k,k) that a code stands for."""
        return self.mean + torch.einsum("ncij,n->cij", self.components, code)

    def save(self, path: Path | str) -> None:
        """Write the basis as ``.npz``, whole or not at all."""
        with atomic_path(path) as temporary, open(temporary, "wb") as handle:  # to a name, NumPy would add an ending
            np.savez(handle, mean=self.mean.numpy(), components=self.components.numpy())


def load_basis(path: Path | str) -> PsfBasis:
    """Read a basis.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mean, components = (torch.from_numpy(arrays[name]).float() for name in ("mean", "components"))
    except Exception as error:  # NumPy and zip answer other files with almost any type
        raise UserError(f"{path} is no PSF basis ({error}): make one with `udc-robust psf-code`") from error
    finite = mean.isfinite().all() and components.isfinite().all()
    if mean.ndim != 3 or components.ndim != 4 or components.shape[1:] != mean.shape or not finite:
        raise UserError(f"{path} is no PSF basis (shapes or NaN): make one with `udc-robust psf-code`")
    return PsfBasis(mean, components)


def fit_basis(psfs: Sequence[Tensor], count: int = 5) -> PsfBasis:
    """Fit the first ``count`` principal components of at least ``count + 1`` PSFs (3,k,k) of one size.

    Raises:
        UserError: too few PSFs, or different sizes.
    """
    if len({tuple(psf.shape) for psf in psfs}) > 1:
        raise UserError(f"PSFs differ in size ({', '.join(str(tuple(p.shape)) for p in psfs[:3])}): crop them alike")
    if len(psfs) <= count:
        raise UserError(f"{count} components need at least {count + 1} PSFs, not {len(psfs)}: add turned copies")
    stacked = torch.stack(list(psfs)).double()
    mean = stacked.mean(0)
    if mean.numel() < count:
        raise UserError(f"a PSF of {mean.shape[-1]} px a side has no {count} components: give one of 3 px or more")
    _, sizes, directions = torch.linalg.svd((stacked - mean).flatten(1), full_matrices=False)
    if not sizes[0] > 0:
        raise UserError("the PSFs are all the same: give different ones, or turn the one further (--turn)")
    components = directions[:count]
    # The sign of a component is arbitrary: let its largest entry be positive, so that codes can be reproduced.
    peaks = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = (components * peaks.sign()).view(count, *mean.shape)
    return PsfBasis(mean.float(), components.float())


def turned(psf: Tensor, degrees: float) -> Tensor:
    """The PSF (3,k,k) of the same display turned in its plane, each channel summing to 1 again.

    DISCNet's eight further PSFs are such copies of the one that was measured.
    """
    if not math.isfinite(degrees):
        raise UserError(f"a PSF cannot be turned by {degrees} degrees: give a finite --turn")
    angle = torch.tensor(degrees).deg2rad()
    rotation = torch.stack([angle.cos(), -angle.sin(), angle * 0, angle.sin(), angle.cos(), angle * 0]).view(1, 2, 3)
    grid = F.affine_grid(rotation, [1, *psf.shape], align_corners=False)
    rotated = F.grid_sample(psf[None], grid.to(psf), mode="bilinear", align_corners=False)[0]
    return rotated / rotated.sum((1, 2), keepdim=True)
