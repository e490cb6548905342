"""Channels: what happens to every capture within a budget, whatever restorer will see it.

A restorer that knows the channel, and learns nothing else, is the best answer to it, and no restorer at all holds more
against an attacker of the same budget than the best one does behind any channel: a jammer plays its strategy openly and
first. So channels bound from above what adversarial training bounds from below (for classifiers Pydi & Jog 2021 and
Meunier et al. 2021 have both sides of the game).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.streams import Streams
from udc_robust.attacks.threat import Threat
from udc_robust.files import shipped_weights
from udc_robust.names import LEARNT

Channel = Callable[[Tensor, Threat, Streams], Tensor]
"""``(x, threat, streams) -> (B,3,H,W)`` in the budget around ``x``."""

_BLUR = 3.0  # px, the deviation of the blur that captures are moved towards
_GAIN = 10.0  # makes a jammer learn faster than the restorer that it plays against
_FINEST, _COARSEST = 4.0, 32.0  # px, of smooth fields
_SPACINGS = (1, 4, 16, 64)  # px, of the noise that a jammer draws from


def _blurred(x: Tensor, deviation: float) -> Tensor:
    from kornia.filters import gaussian_blur2d

    side = 2 * min(round(3 * deviation), min(x.shape[-2:]) - 1) + 1
    return gaussian_blur2d(x, (side, side), (deviation, deviation), border_type="replicate")


def towards_blur(x: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """As near to a blurred capture as the budget lets it: fine detail of less than eps is gone."""
    return threat.project(x, _blurred(x, _BLUR))


def smooth_fields(x: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """Full budget up and down in patches of 4 to 32 px, a field a channel, and a random shift of all: clipped."""
    places, shifts = streams.uniform(x[:, :1, :1, :1]), 4 * streams.uniform(x[:, :1, :1, :1]) - 2
    noise = streams.normal(x)
    fields = torch.cat([
        _blurred(row[None], _FINEST * (_COARSEST / _FINEST) ** place.item())
        for row, place in zip(noise, places, strict=True)
    ])  # fmt: skip
    return threat.project(x, x + threat.eps * (fields.sign() + shifts).clamp(-1, 1))


def random_signs(x: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """A fair sign of the whole budget at every value."""
    return threat.project(x, x + threat.eps * streams.signs(x))


def bins(x: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """The middle of the bin that a value lies in: all 8-bit levels within eps of it become one."""
    width = 2 * threat.eps + 1 / 255
    return threat.project(x, ((x + 0.5 / 255) / width).floor() * width + threat.eps)


CHANNELS: dict[str, Channel] = {
    "blur": towards_blur, "fields": smooth_fields, "signs": random_signs, "bins": bins,
}  # fmt: skip
"""Those that learn nothing."""


class Jammer(nn.Module):
    """A channel that is learnt: a small network that says for every value how far up or down, in units of eps.

    It draws noise, as a restorer would learn to undo what a jammer without any does to a capture.

    Args:
        width: of its three hidden layers, which see 31 px.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, dilation in enumerate((1, 2, 4)):
            channels = 3 * (2 + len(_SPACINGS)) if i == 0 else width
            layers += [nn.Conv2d(channels, width, 3, 1, dilation, dilation, padding_mode="replicate")]
            layers += [nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1, padding_mode="replicate"))

    @staticmethod
    def noise(x: Tensor, streams: Streams) -> Tensor:
        """Normal noise of every pixel, of ever coarser grids and of the whole image: three channels each."""
        grids = [streams.normal(x[:, :, ::spacing, ::spacing]) for spacing in (*_SPACINGS, max(x.shape[-2:]))]
        return torch.cat([interpolate(grid, x.shape[-2:], mode="bilinear") for grid in grids], 1)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """``(B,3,H,W)`` in -1 to 1."""
        return torch.tanh(_GAIN * self.body(torch.cat([x, noise], 1)))

    def through(self, x: Tensor, threat: Threat, noise: Tensor) -> Tensor:
        """What becomes of captures."""
        return threat.project(x, x + threat.eps * self(x, noise))

    def jam(self, x: Tensor, threat: Threat, streams: Streams) -> Tensor:
        """The jammer as a `Channel`, which draws its noise from each image's stream."""
        return self.through(x, threat, self.noise(x, streams))


def load_jammer(file: str | Path) -> Jammer:
    """The jammer that a training left beside its restorer.

    Raises:
        ValueError: no such file, or one that holds another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no safetensors file of a jammer ({error}): check the path") from error
    first = state.get("body.0.weight")
    jammer = Jammer(len(first) if first is not None and first.ndim == 4 else 1)
    try:
        jammer.load_state_dict(state)
    except RuntimeError:
        raise ValueError(
            f"{file} holds no jammer: `finetune` with recipe jammer and channel {LEARNT} leaves NAME_jammer.safetensors"
        ) from None
    return jammer.eval().requires_grad_(False)


def shipped_jammers() -> dict[str, Path]:
    """Names and files of the learnt channels that come with the package."""
    return shipped_weights("channels")


def find_channel(channel: str) -> Channel:
    """A channel by its name, also of a jammer that ships, or that of a jammer's file.

    Raises:
        ValueError: neither.
    """
    if channel in CHANNELS:
        return CHANNELS[channel]
    file = shipped_jammers().get(channel, Path(channel))
    if file.suffix != ".safetensors":
        known = ", ".join([*CHANNELS, *shipped_jammers()])
        raise ValueError(f"channel {channel!r} is none of {known}, nor a jammer's .safetensors file")
    jammer = load_jammer(file)
    return lambda x, threat, streams: jammer.to(x.device).jam(x, threat, streams)


def _is_channel(size: tuple[int, int], *, channel: str) -> None:
    find_channel(channel)


@method("output", norms=("linf",), keeps_best=False, check=_is_channel)
def channel(oracle: Oracle, x: Tensor, threat: Threat, *, channel: str = "blur") -> Tensor:
    """A channel, which looks at captures only and asks nobody: what the best restorer leaves of it is a ceiling.

    Args:
        channel: ``blur``, ``fields``, ``signs``, ``bins``, a jammer that ships, or the file of one.
    """
    return find_channel(channel)(x, threat, oracle.streams)
