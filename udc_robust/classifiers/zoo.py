"""Finding, building and loading classifiers: ours, torchvision's, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.classifiers.resnet_cifar import IMAGENET_MEAN, IMAGENET_STD, Draws, ResNetCifar, from_public
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import shipped_weights
from udc_robust.networks.user_code import answered, build, network_builder
from udc_robust.networks.weights import facts_of, load_into, no_code, read_weights, without_prefix

DEPTHS = {f"resnet{depth}": depth for depth in (8, 20, 32, 44, 56)}
"""Our CIFAR networks by name; ResNet-8 is one for tests."""


class Classifier(nn.Module):
    """A network as deployed: RGB images ``(B,3,H,W)`` in [0,1] in, raw scores ``(B,K)`` out.

    Attributes:
        network: the network itself, which sees normalised images.
        mean, std: the normalisation, one number a channel.
        classes: names of the classes; None where nobody said.
        trained: False when it runs with random weights; reports must say so.
        origin: the weights file, or why there is none.
    """

    domain, min_size = "srgb", 1
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        classes: Sequence[str] | None = None,
        trained: bool = False,
        origin: str = "random weights",
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise UserError(f"classifier {name!r}: mean and std need three numbers, std positive, not {mean}, {std}")
        self.name, self.network, self.classes = name, network, None if classes is None else tuple(classes)
        self.trained, self.origin = trained, origin
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def random(self) -> bool:
        """Whether two answers to one image differ: it then takes streams."""
        return bool(getattr(self.network, "random", False))

    def forward(self, x: Tensor, streams: Draws | None = None) -> Tensor:
        """Scores of a batch, a random network's from these streams (without them: from none of its noise)."""
        more = () if streams is None else (streams,)
        scores = answered(self.network, (x - self.mean) / self.std, f"classifier {self.name!r}", *more)
        if scores.ndim != 2 or len(scores) != len(x):
            raise UserError(
                f"classifier {self.name!r} answers to {tuple(x.shape)} with {tuple(scores.shape)}: "
                "a classifier gives scores (B,K)"
            )
        return scores


@dataclass(frozen=True)
class ClassifierSpec:
    """What the user says about a classifier.

    Attributes:
        network: a shipped checkpoint, a network of ours (``resnet20`` ...), a model of torchvision, or
            ``package.module:name`` / ``file.py:name`` (a class or a function); None: what ``name`` says.
        options: constructor arguments, ``num_classes`` above all.
        weights: a shipped checkpoint, ``.pth``, ``.th``, ``.pt`` or ``.safetensors``; files that we trained, and the
            public CIFAR ResNets, tell their own network, options and normalisation. None: for torchvision's models the
            official weights, if they are on disk already.
        mean, std: normalisation of the input; None: what the weights were trained with.
    """

    name: str
    network: str | None = None
    options: Mapping[str, Any] | None = None
    weights: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def shipped_classifiers() -> dict[str, Path]:
    """Names and files of the classifiers that come with the package."""
    return shipped_weights("classifiers")


def build_classifier(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Construct a network by name, with random weights.

    Raises:
        UserError: an unknown name, or options that its constructor does not take.
    """
    network = build(_builder(name), name, options)
    if getattr(network, "channels_last", False):  # never for networks of others, which may call `view`
        network.to(memory_format=torch.channels_last)
    return network


def _builder(name: str) -> Callable[..., nn.Module]:
    if name in DEPTHS:
        return lambda **options: ResNetCifar(**{"depth": DEPTHS[name], **options})
    if ":" in name or "." in name:
        return network_builder(name)
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown_name("classifier", name, [*DEPTHS, *known])
    return lambda **options: torchvision.models.get_model(name, weights=None, **options)


def load_classifier(spec: ClassifierSpec, device: str | torch.device = "cpu", seed: int = 0) -> Classifier:
    """Build a classifier; without weights it gets random ones (from ``seed``) and is marked untrained.

    Raises:
        UserError: an unknown network, options it does not take, weights that do not fit or cannot be read.
    """
    name, weights = spec.network or spec.name, spec.weights
    if (weights or name) in shipped_classifiers():
        weights = str(shipped_classifiers()[weights or name])
    facts: dict[str, Any] = {} if weights is not None else _official(name, spec.options or {})
    weights = weights or facts.get("weights")
    state, told = _read(weights) if weights else (None, {})
    facts = {**facts, **told}
    network = spec.network
    if network is None or name in shipped_classifiers():
        network = no_code(facts["network"], str(weights)) if "network" in facts else name  # its builder knows it or not
    options = {**_own_options(network, facts), **(spec.options or {})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build_classifier(network, options)
    if state is not None:
        load_into(built, state, str(weights))
    classifier = Classifier(
        spec.name, built, mean=spec.mean or facts.get("mean") or (0.0, 0.0, 0.0),
        std=spec.std or facts.get("std") or (1.0, 1.0, 1.0), classes=facts.get("classes"), trained=state is not None,
        origin=str(weights) if weights else f"random weights, seed {seed}",
    )  # fmt: skip
    return classifier.to(device).eval()


def _own_options(network: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a checkpoint tells, for the networks that they are options of."""
    options = dict(facts.get("options") or {})
    if network in DEPTHS and facts.get("network") != network:
        options.pop("depth", None)  # what the user named; a file of another depth is then told by its entries
    return options if network in DEPTHS or facts.get("network") == network else {}


def _official(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Where torchvision keeps the official weights of a model, if it has them here, and their normalisation."""
    import torchvision

    if name in DEPTHS or name not in torchvision.models.list_models(module=torchvision.models):
        return {}
    facts: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    entry = torchvision.models.get_model_weights(name)["DEFAULT"]
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    if path.is_file() and not options:
        preset = entry.transforms()
        facts |= {"weights": str(path), "classes": entry.meta["categories"], "mean": preset.mean, "std": preset.std}
    return facts


def _read(weights: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state dict and what is known of it: from its metadata, or from the names of a public CIFAR ResNet."""
    state, metadata = read_weights(weights)
    facts = facts_of(metadata, weights)
    public = None if facts else from_public(without_prefix(state, ("conv1.weight", "linear.weight", "fc.weight")))
    if public is None:
        return state, facts
    state, facts = public
    depths = {depth: name for name, depth in DEPTHS.items()}
    return state, {"network": depths.get(facts["options"]["depth"], "resnet20"), **facts}
