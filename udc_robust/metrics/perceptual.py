"""LPIPS by the ``lpips`` package, and the plain word when its weights are not to be had."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

BACKBONES = {"alex": "AlexNet", "vgg": "VGG-16", "squeeze": "SqueezeNet"}
"""Of LPIPS, as people call them."""
_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


MEGABYTES = {"alex": 233, "vgg": 528, "squeeze": 5}
_URL = "https://download.pytorch.org/models/"


class LpipsUnavailable(Exception):
    """The backbone weights are neither cached nor downloadable; the text is the reason."""


def weights_file(backbone: str) -> Path:
    """Where torch.hub keeps the torchvision weights of ``backbone``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _FILES[backbone]


def fetch_backbone(backbone: str) -> str:
    """Download the weights of a backbone where they are not there yet, checked by the hash in their name.

    Returns:
        What was done, in a line.

    Raises:
        LpipsUnavailable: no network: it says what to copy where.
    """
    path, url = weights_file(backbone), _URL + _FILES[backbone]
    if path.is_file():
        return f"LPIPS {backbone}: there already, {path}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
    except Exception as error:  # urllib, ssl, socket, hash mismatch: all mean the same to the user
        raise LpipsUnavailable(
            f"LPIPS {backbone} cannot be fetched ({error}): copy {url} ({MEGABYTES[backbone]} MB) to {path} yourself; "
            "TORCH_HOME chooses the folder"
        ) from error
    return f"LPIPS {backbone}: {path}, {MEGABYTES[backbone]} MB"


@functools.cache
def _try_load(backbone: str) -> tuple[nn.Module | None, str]:
    import socket

    import lpips

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # a silent network must not stop the run
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = lpips.LPIPS(net=backbone, verbose=False)
    except Exception as error:  # urllib, ssl, socket, hash mismatch: all mean the same to the user
        where = weights_file(backbone)
        reason = f"LPIPS ({backbone}) weights are not at {where} and could not be downloaded ({error})"
        return None, reason.replace("\n", " ")
    finally:
        socket.setdefaulttimeout(patience)
    return network.eval().requires_grad_(False), ""


def load_lpips(backbone: str = "alex", device: str | torch.device = "cpu") -> nn.Module:
    """Load LPIPS v0.1 once per process.

    Raises:
        LpipsUnavailable: with the reason, when the backbone's weights cannot be had.
    """
    network, reason = _try_load(backbone)
    if network is None:
        raise LpipsUnavailable(reason)
    return network.to(device)


def lpips_distance(network: Any, output: Tensor, target: Tensor) -> Tensor:
    """LPIPS of ``(B,3,H,W)`` images in [0,1], one number per image.

    The package divides by ``sqrt(sum f^2) + eps``, whose gradient is NaN where a feature vector is all zero. Here eps
    sits inside the root: the same value to about 1e-6, and a finite gradient everywhere.
    """
    total: Tensor | None = None
    for a, b, head in zip(*(_normalised(network, image) for image in (output, target)), network.lins, strict=True):
        layer = head((a - b) ** 2).mean((1, 2, 3))
        total = layer if total is None else total + layer
    assert total is not None
    return total


def _normalised(network: Any, image: Tensor) -> list[Tensor]:
    """The layers' features, of length one at every place."""
    layers = network.net(network.scaling_layer(2 * image - 1))
    return [f * torch.rsqrt(f.square().sum(1, keepdim=True) + 1e-20) for f in layers]


def lpips_features(network: Any, image: Tensor) -> Tensor:
    """Features ``(B,n)`` of images in [0,1] whose squared Euclidean distance is their LPIPS.

    The heads weigh channels (their weights are not negative) and average over places.
    """
    layers = _normalised(network, image)
    weights = [head.model[-1].weight.clamp_min(0) for head in network.lins]
    parts = [
        (f * (weight / (f.shape[-2] * f.shape[-1])).sqrt()).flatten(1)
        for f, weight in zip(layers, weights, strict=True)
    ]
    return torch.cat(parts, 1)
