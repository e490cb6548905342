"""Images on the border of two classes stand in for strange ones (after BoS, "boundary samples", ICPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from udc_robust.defences.transforms import require
from udc_robust.detectors.detector import Detector, features, in_parts


class Boundary(Detector):
    """Odds that an image is a boundary sample and no clean one, by its features and its sorted scores.

    Every clean image is led to the nearest border by Newton steps on the margin (DeepFool, Moosavi-Dezfooli et al.
    2016, between the answer and the runner-up), and a logistic regression of scikit-learn tells the two sets apart. The
    paper's own samples and score are not known: this is after it, not it.

    Args:
        steps: Newton steps to the border.
        strength: of the regression: inverse of its regularisation.
    """

    beside = ("classifier",)
    weight: Tensor
    bias: Tensor

    def __init__(self, steps: int = 4, strength: float = 1.0) -> None:
        super().__init__()
        require(1 <= steps <= 100, "steps", "in 1..100", steps)
        require(0 < strength <= 1e6, "strength", "over 0", strength)
        self.steps, self.strength = steps, strength

    def fit(self, network: nn.Module, clean: Tensor, seed: int) -> None:
        """Make the boundary samples, and learn what tells them from clean images."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        self.network = network
        border = torch.cat([led_to_the_border(network, part, self.steps) for part in clean.split(64)])
        vectors = in_parts(self._described, torch.cat([clean, border])).double().cpu().numpy()
        scale = StandardScaler().fit(vectors)
        labels = [0] * len(clean) + [1] * len(border)
        told = LogisticRegression(C=self.strength, max_iter=1000, random_state=seed % 2**32)
        told.fit(scale.transform(vectors), labels)
        weight = torch.from_numpy(told.coef_[0] / scale.scale_).to(clean)
        self.register_buffer("weight", weight, persistent=False)
        mean = torch.from_numpy(scale.mean_).to(clean)
        self.register_buffer("bias", torch.tensor(told.intercept_[0]).to(clean) - mean @ weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Log odds ``(B,)``."""
        return self._described(x) @ self.weight + self.bias

    def _described(self, x: Tensor) -> Tensor:
        return torch.cat([features(self.network, x), self.network(x).sort(1, descending=True).values], 1)


def led_to_the_border(network: nn.Module, x: Tensor, steps: int) -> Tensor:
    """Images on the border between their answer and its runner-up, within [0,1]."""
    with torch.no_grad():
        first, second = network(x).topk(2, 1).indices.T[..., None]
    for _ in range(steps):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            scores = network(x)
            gap = (scores.gather(1, first) - scores.gather(1, second))[:, 0]
            (slope,) = torch.autograd.grad(gap.sum(), x)
        size = slope.flatten(1).square().sum(1).clamp_min(1e-12)
        x = (x.detach() - (gap.detach() / size).view(-1, 1, 1, 1) * slope).clamp(0, 1)
    return x
