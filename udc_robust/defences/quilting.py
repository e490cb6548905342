"""Image quilting: an image rebuilt from patches of other, clean images (Efros & Freeman 2001; Guo et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence, Gradient, StraightThrough
from udc_robust.defences.transforms import require
from udc_robust.errors import UserError

_AT_ONCE = 2**24  # distances from places to patches that are in memory at once: 64 MiB


def clean_patches(images: Sequence[Tensor], size: int, count: int, seed: int = 0) -> Tensor:
    """``count`` patches ``(N,C,size,size)`` from random places of clean images ``(C,H,W)``, as many from each.

    Raises:
        UserError: no images, or one smaller than a patch.
    """
    if not images:
        raise UserError("quilting needs at least one clean image: name a folder that holds some")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, image in enumerate(images):
        height, width = image.shape[-2:]
        if min(height, width) < size:
            raise UserError(f"a clean image is {height}x{width}; quilting needs at least {size} px a side")
        for _ in range(count * number // len(images), count * (number + 1) // len(images)):
            top, left = (
                int(torch.randint(room + 1, (), generator=generator)) for room in (height - size, width - size)
            )
            found.append(image[:, top : top + size, left : left + size])
    return torch.stack(found)


class Quilting(Defence):
    """Every patch of the image becomes the nearest clean patch; neighbours meet along the least visible seam.

    Published: patches of 5 pixels overlapping by 2, from a million of them, reduced to 64 principal components. Here
    the index is small and distances are exact. Seams are cut between neighbours in a row, then between rows. Its best
    known gradient is the identity's.

    Args:
        patches: the index, ``(N,C,size,size)`` in [0,1].
        overlap: pixels that neighbours share, at least 1 and at most half of the patch.
        neighbours: one of so many nearest patches is drawn; 1 is deterministic.
    """

    patches: Tensor

    def __init__(self, patches: Tensor, overlap: int = 2, neighbours: int = 1) -> None:
        super().__init__()
        size = patches.shape[-1]
        require(1 <= overlap <= size // 2, "overlap", f"in 1..{size // 2} for patches of {size} px", overlap)
        require(1 <= neighbours <= len(patches), "neighbours", f"in 1..{len(patches)}, the patches", neighbours)
        self.register_buffer("patches", patches)
        self.size, self.overlap, self.neighbours = size, overlap, neighbours
        self.random = neighbours > 1

    @property
    def gradients(self) -> Mapping[str, Gradient]:
        """Straight through, also for an attacker who knows everything: the choice of patches has no slope."""
        return {"bpda": StraightThrough(), "adaptive": StraightThrough()}

    def _grid(self, x: Tensor) -> tuple[int, int]:
        step = self.size - self.overlap
        rows, columns = (max(1, -(-(side - self.overlap) // step)) for side in x.shape[-2:])
        return rows, columns

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Which neighbour each place takes, ``(B,rows,columns)`` uniform numbers."""
        return streams.uniform(x.new_empty(len(x), *self._grid(x))) if self.random else super().draw(x, streams)

    @torch.no_grad()
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Rebuild the images.

        Raises:
            UserError: the images have another number of channels than the index.
        """
        require(
            x.shape[1] == self.patches.shape[1], "channels", f"{self.patches.shape[1]}, as in the index", x.shape[1]
        )
        height, width = x.shape[-2:]
        rows, columns = self._grid(x)
        step = self.size - self.overlap
        border = (0, step * columns + self.overlap - width, 0, step * rows + self.overlap - height)
        wanted = F.unfold(F.pad(x, border, mode="replicate"), self.size, stride=step)
        rank = noise.flatten(1) if self.random else wanted.new_zeros(len(x), rows * columns)
        chosen = self._nearest(wanted.transpose(1, 2).flatten(0, 1), rank.flatten())
        grid = self.patches[chosen].unflatten(0, (len(x), rows, columns))  # (B,rows,columns,C,size,size)
        strips = grid[:, :, 0]
        for column in range(1, columns):
            strips = _joined(strips, grid[:, :, column], self.overlap)
        quilt = strips[:, 0].transpose(-1, -2)
        for row in range(1, rows):
            quilt = _joined(quilt, strips[:, row].transpose(-1, -2), self.overlap)
        return quilt.transpose(-1, -2)[..., :height, :width].contiguous()

    def _nearest(self, wanted: Tensor, rank: Tensor) -> Tensor:
        """Index of the clean patch for each row of ``wanted``: of its nearest, the one at ``rank`` in [0,1)."""
        known = self.patches.flatten(1).to(wanted)
        places, found = max(1, _AT_ONCE // len(known)), []
        for rows, uniform in zip(wanted.split(places), rank.split(places), strict=True):
            near = torch.cdist(rows, known).topk(self.neighbours, largest=False).indices
            pick = uniform.mul(self.neighbours).long().clamp(max=self.neighbours - 1)
            found.append(near.gather(1, pick[:, None])[:, 0])
        return torch.cat(found)


def _joined(left: Tensor, right: Tensor, overlap: int) -> Tensor:
    """Two images ``(...,C,H,W)`` side by side, sharing ``overlap`` columns that are cut along the best seam."""
    old, new = left[..., -overlap:], right[..., :overlap]
    seam = least_seam((old - new).square().sum(-3))
    before = torch.arange(overlap, device=left.device) < seam[..., None]
    return torch.cat([left[..., :-overlap], torch.where(before.unsqueeze(-3), old, new), right[..., overlap:]], -1)


def least_seam(cost: Tensor) -> Tensor:
    """The column of the cheapest path from top to bottom of ``(...,H,overlap)``, a step of at most one to the side.

    Returns:
        ``(...,H)``, int64.
    """
    total, choices = cost[..., 0, :], []
    columns = torch.arange(cost.shape[-1], device=cost.device)
    for row in range(1, cost.shape[-2]):
        beside = F.pad(total, (1, 1), value=torch.inf).unfold(-1, 3, 1)
        choices.append(columns + beside.argmin(-1) - 1)
        total = cost[..., row, :] + beside.amin(-1)
    path = [total.argmin(-1)]
    for choice in reversed(choices):
        path.append(choice.gather(-1, path[-1][..., None])[..., 0])
    return torch.stack(path[::-1], -1)
