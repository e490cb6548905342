"""A small study: twelve digits, a tiny network of the user's own, and an evaluation of it."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from udc_robust.classifiers.data import digits
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier
from udc_robust.config_file import check_config
from udc_robust.networks.weights import save_weights
from udc_robust.tasks import evaluate
from udc_robust.tasks.classification_schema import ClassificationConfig

SOURCE = """
from torch import nn


class Tiny(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, classes)
        )

    def forward(self, x):
        return self.layers(x)


class Softmax(Tiny):
    def forward(self, x):
        return super().forward(x).softmax(1)
"""


@functools.cache
def trained() -> dict[str, Tensor]:
    """Weights that tell the digits apart: about 90 % of the test part."""
    scope: dict = {"__name__": "tiny"}
    exec(SOURCE, scope)
    torch.manual_seed(0)
    network = scope["Tiny"]()
    x, labels = digits("train").spread(400).batch(range(400))
    adam = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(80):
        adam.zero_grad()
        cross_entropy(network(x), labels).backward()
        adam.step()
    return network.state_dict()


def make_workplace(folder: Path) -> Path:
    """Code and weights of the tiny classifier."""
    (folder / "tiny.py").write_text(SOURCE)
    network = nn.Module()
    network.state_dict = trained  # type: ignore[method-assign,assignment]
    save_weights(folder / "tiny.safetensors", network, {})
    return folder


def block(folder: Path, **changes) -> dict:
    """The tiny classifier in a config."""
    return {
        "name": "tiny", "network": f"{folder / 'tiny.py'}:Tiny", "weights": str(folder / "tiny.safetensors"), **changes
    }  # fmt: skip


def values(folder: Path, **changes) -> dict:
    return {
        "name": "digits study", "batch_size": 5, "gallery": 2, "draws": 3, "eps": ["8/255", "32/255"],
        "data": [{"source": "digits:test", "name": "twelve", "limit": 12}],
        "classifiers": [block(folder)],
        "defences": ["none", {"kind": "halftone", "levels": 4}, {"kind": "noise", "name": "noisy", "sigma": 0.1}],
        "attacks": [
            "noise",
            "fgsm",
            {"method": "pgd", "steps": 5, "eot": 2, "access": ["blind", "bpda", "surrogate", "adaptive"]},
            {"method": "square", "steps": 5, "eps": "32/255"},
            {"method": "ddn", "norm": "l2", "steps": 8, "defences": ["none"]},
        ],
        **changes,
    }  # fmt: skip


def run(folder: Path, out: str, **changes) -> Path:
    evaluate(check_config(values(folder, **changes), ClassificationConfig, "test"), folder / out)
    return folder / out


def load(folder: Path) -> Classifier:
    return load_classifier(ClassifierSpec(**block(folder)))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))
