"""Several restorers deployed as one, which answers with the mean of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.files import sha256_of
from udc_robust.networks.short_names import named_by_file
from udc_robust.restorers.restorer import Restorer


class MeanOf(nn.Module):
    """The mean of restorers' answers ``(B,3,H,W)``, at the cost of all of them, in the colour domain of the first.

    For a convex loss the mean is never worse than its members are on average, attacked or not; of networks that were
    hardened alike and fail differently it holds more than the best of them.

    Attributes:
        origin: which weights its members have: what makes it this restorer.
        parent, parent_sha256: the first member, so that a report compares it with what that was hardened from.
    """

    weightless = True
    """It has no file of its own."""

    def __init__(self, of: Sequence[str]) -> None:
        """Load the members.

        Args:
            of: two or more restorers: shipped checkpoints or weights files.

        Raises:
            UserError: fewer, a member that cannot be loaded, or one without weights.
        """
        super().__init__()
        if isinstance(of, str) or len(of) < 2 or not all(isinstance(name, str) for name in of):
            raise UserError(f"`of` must be a list of two or more restorers, shipped or weights files, not {of!r}")
        with torch.device("cpu"):  # also in a rehearsal without numbers
            first = _member(of[0], "tonemapped")
            self.domain = first.domain = first.network_domain
            members = [first, *(_member(name, self.domain) for name in of[1:])]
        self.members = nn.ModuleList(members)
        self.whole_image = any(member.whole_image for member in members)
        self.min_size = max(member.min_size for member in members)
        digests = [sha256_of(member.origin) for member in members]
        self.origin = "mean of " + ", ".join(
            f"{member.name} (sha256 {digest[:16]})" for member, digest in zip(members, digests, strict=True)
        )
        self.parent, self.parent_sha256 = members[0].name, digests[0]

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(B,3,H,W)`` of ``domain``."""
        answer = self.members[0](x)
        for member in self.members[1:]:
            answer = answer + member(x)
        return answer / len(self.members)


def _member(name: str, domain: str) -> Restorer:
    from udc_robust.restorers.zoo import RestorerSpec, load_restorer  # which builds this class

    member = load_restorer(RestorerSpec(**named_by_file({"name": name})), domain)
    if not (member.trained and Path(member.origin).is_file()):
        raise UserError(f"restorer {name!r} of the mean has no weights: name shipped checkpoints or weights files")
    return member
