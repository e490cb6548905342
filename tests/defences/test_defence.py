"""A network behind a defence: what each of them draws."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from udc_robust.attacks import Streams
from udc_robust.defences.defence import Defended
from udc_robust.defences.transforms import AdditiveNoise, Identity


class Noisy(nn.Module):
    """A network that adds noise of its own."""

    random = True

    def forward(self, x: Tensor, streams: Streams) -> Tensor:
        return x + streams.normal(x)


def test_a_random_network_draws_on_where_its_defence_stopped() -> None:
    """Noise that both share would add up to twice the deviation, and a known draw would replay another one."""
    x, streams = torch.zeros(2, 3, 4, 4), Streams([1, 2])
    victim = Defended(AdditiveNoise(1.0), Noisy())
    assert victim.random and Defended(Identity(), Noisy()).random
    assert torch.equal(victim(x, Streams([1, 2])), streams.normal(x) + streams.normal(x))
