"""Several restorers deployed as one, which answers with the mean of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.networks.short_names import named_by_file
from udc_robust.networks.weights import no_code
from udc_robust.restorers.restorer import Restorer


class MeanOf(nn.Module):
    """The mean of restorers' answers ``(B,3,H,W)``, at the cost of all of them, in the colour domain of the first.

    For a convex loss the mean is never worse than its members are on average, attacked or not; of networks that were
    hardened alike and fail differently it holds more than the best of them.

    Attributes:
        weightless: it has no file of its own, its members have.
        origin: which weights its members have: what makes it this restorer.
        sha256: a digest of that.
        parent, parent_sha256, ancestors: the first member and its line, so that a report compares it with what that
            was hardened from.
    """

    def __init__(self, of: Sequence[str] | Sequence[Mapping[str, Any]]) -> None:
        """Load the members, or build them for the weights of a mean that was trained as one.

        Args:
            of: two or more restorers: shipped checkpoints or weights files. A weights file of a mean says ``network``,
                ``options`` and ``domain`` of each in place of a name.

        Raises:
            UserError: fewer, a member that cannot be loaded, or one without weights.
        """
        super().__init__()
        self.weightless = _each(of, str)
        if isinstance(of, str) or len(of) < 2 or not (self.weightless or _each(of, Mapping)):
            raise UserError(f"`of` must be a list of two or more restorers, shipped or weights files, not {of!r}")
        with torch.device("cpu"):  # also in a rehearsal without numbers
            first = _member(of[0], "tonemapped")
            self.domain = first.domain = first.network_domain
            members = [first, *(_member(name, self.domain) for name in of[1:])]
        self.members = nn.ModuleList(members)
        self.whole_image = any(member.whole_image for member in members)
        self.min_size = max(member.min_size for member in members)
        named = ", ".join(f"{member.name} (sha256 {(member.sha256 or '')[:16]})" for member in members)
        self.origin = f"mean of {named}"
        self.sha256 = hashlib.sha256(self.origin.encode()).hexdigest()
        self.parent, self.parent_sha256, self.ancestors = first.name, first.sha256, first.line

    @property
    def architecture(self) -> dict[str, Any]:
        """What builds it for weights of its own, without the files of its members."""
        members: list[Restorer] = list(self.members)  # type: ignore[arg-type]
        of = [{**member.architecture, "domain": member.network_domain} for member in members]
        return {"network": "mean_of", "options": {"of": of}}

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(B,3,H,W)`` of ``domain``."""
        answer = self.members[0](x)
        for member in self.members[1:]:
            answer = answer + member(x)
        return answer / len(self.members)


def _each(of: Sequence[object], kind: type) -> bool:
    return all(isinstance(one, kind) for one in of)


def _member(one: str | Mapping[str, Any], domain: str) -> Restorer:
    from udc_robust.restorers.zoo import RestorerSpec, load_restorer  # which builds this class

    if isinstance(one, Mapping):
        if set(one) != {"network", "options", "domain"}:
            raise UserError(f"a member of a mean is a name, or `network`, `options` and `domain`, not {dict(one)!r}")
        network = no_code(one["network"], "a mean")
        return load_restorer(RestorerSpec("member", network, one["options"], domain=one["domain"]), domain)
    member = load_restorer(RestorerSpec(**named_by_file({"name": one})), domain)
    if not (member.trained and Path(member.origin).is_file()):
        raise UserError(f"restorer {one!r} of the mean has no weights: name shipped checkpoints or weights files")
    return member
