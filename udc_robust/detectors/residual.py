"""How much a defence changes an image, or the network's answer to it."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence
from udc_robust.defences.registry import build_defence, check_defence
from udc_robust.detectors.config import kind_and_options
from udc_robust.detectors.detector import Detector


class Residual(Detector):
    """Change that a purifier, or any other defence, makes of an image: of an attacked one it takes more away.

    With ``of: answer`` it is the change of the network's answer: for a classifier feature squeezing (Xu et al. 2018,
    NDSS, section IV), the L1 distance of the two predictions; for a restorer the RMS distance of the two restorations.
    A random defence makes one fixed draw, so that an image has one score; whoever knows the detector knows the draw.

    Args:
        defence: as a block of ``defences``: ``{kind: purifier, purifier: purifier_mini, noise_level: 5}``, or a kind.
        of: what is compared before and after: the ``input`` (RMS) or the ``answer``.
    """

    learns = False

    def __init__(self, defence: Any, of: Literal["input", "answer"] = "input") -> None:
        super().__init__()
        self.kind, self.options = kind_and_options(defence)
        check_defence(self.kind, self.options)
        self.of = of
        self.defence: Defence | None = None

    def load(self) -> Residual:
        """Build the defence."""
        self.defence = build_defence(self.kind, self.options)
        return self

    def fit(self, network: nn.Module, clean: Tensor, seed: int) -> None:
        """Nothing is learnt."""
        self.network = network
        assert self.defence is not None
        self.defence.to(clean.device)

    def forward(self, x: Tensor) -> Tensor:
        """RMS or L1 distance ``(B,)``; its gradient takes the best way through the defence that there is."""
        assert self.defence is not None
        noise = self.defence.draw(x, Streams([0] * len(x)))
        changed = self.defence.gradients["adaptive"](self.defence, x, noise)
        if self.of == "input":
            return _rms(changed - x)
        before, after = self.network(x), self.network(changed)
        if before.ndim == 2:
            return (before.softmax(1) - after.softmax(1)).abs().sum(1)
        return _rms(after - before)


def _rms(change: Tensor) -> Tensor:
    return (change.flatten(1).square().mean(1) + 1e-12).sqrt()
