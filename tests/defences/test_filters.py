"""Filters: binary codes with a slope, masks from each image's own stream, and files that are what they say."""

from __future__ import annotations

import pytest
import torch
from tiny_purifier import images

from udc_robust.attacks import Linf, Streams, attack, objective
from udc_robust.defences.defence import Defended
from udc_robust.defences.filters.defence import LqVaeFilter, MaskedFilter, build_network, load_atop, load_lq_vae
from udc_robust.defences.filters.networks import LqVae, MaskedAutoencoder
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights


def _lq_vae() -> LqVae:
    torch.manual_seed(0)
    network = LqVae(latents=6, width=4).requires_grad_(False)
    network.encoder[-1].weight *= 5  # latents on both sides of the threshold, as a training leaves them
    return network


def test_the_code_is_whether_a_latent_is_near_zero() -> None:
    network, z = _lq_vae(), torch.tensor([-0.3, -0.1001, -0.05, 0.0, 0.0999, 0.2]).requires_grad_(True)
    code = network.code(z)
    assert code.tolist() == [-1, -1, 1, 1, 1, -1]
    (slope,) = torch.autograd.grad(code.sum(), z)
    inner = 500 * (0.01 - z.detach() ** 2)
    assert torch.allclose(slope, -1000 * z.detach() / (1 + inner.abs()) ** 2)  # of the softsign that stands for it


def test_the_deployed_answer_is_made_of_bits_alone() -> None:
    """Latents that move without crossing the threshold change nothing: the relaxed slope says otherwise."""
    network, x = _lq_vae(), images(2, 16, 16)
    z = network.encode(x)[0]
    flipped = torch.where(z.abs() < network.tau, z * 0.5, z * 2)
    assert torch.equal(network.hard(network.code(z)), network.hard(network.code(flipped)))
    assert torch.equal(LqVaeFilter(network)(x, None), network.hard(network.code(z)))


def test_an_attacker_follows_the_relaxed_quantiser() -> None:
    """Through it he does more to what is decoded than with the identity's gradient."""
    defence, x = LqVaeFilter(_lq_vae()), images(4, 16, 16)
    damage = {}
    clean = defence(x, None)
    for access in ("bpda", "adaptive"):
        victim = Defended(defence, lambda y: y, defence.gradients[access])
        goal, threat = objective("mse"), Linf(16 / 255)
        found = attack(victim, x, goal, threat, "pgd", seeds=[1, 2, 3, 4], steps=10, target=clean)
        damage[access] = float((defence(found.x_adv, None) - clean).square().mean())
    assert damage["adaptive"] > damage["bpda"] and "relaxed quantiser" in defence.gradients["adaptive"].exactness


def test_masks_and_noise_come_from_each_images_own_stream() -> None:
    torch.manual_seed(0)
    defence, x = MaskedFilter(MaskedAutoencoder(4), hidden=0.5, patch=4, sigma=0.2), images(3, 14, 18)
    noise = defence.draw(x, Streams([1, 2, 3]))
    assert noise.shape == (3, 4, 14, 18) and torch.equal(noise[1:2], defence.draw(x[1:2], Streams([2])))
    patch = noise[:, 3, 4:8, 8:12]
    assert torch.equal(patch, patch[:, :1, :1].expand_as(patch)) and noise[:, 3].unique().numel() == 3 * 4 * 5
    seen = []
    defence.network.register_forward_hook(lambda part, inputs, y: seen.append(inputs))
    assert defence(x, noise).shape == x.shape
    ((shown, kept),) = seen
    assert 0.2 < kept.mean() < 0.8 and torch.equal(shown * (1 - kept), torch.zeros_like(shown))
    here = kept[..., :14, :18].expand(-1, 3, -1, -1) > 0
    assert torch.allclose(shown[..., :14, :18][here], (x + 0.2 * noise[:, :3])[here])


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_sides_that_do_not_divide_into_latents_are_padded_and_cropped(size) -> None:
    x = images(1, *size)
    assert LqVaeFilter(_lq_vae())(x, None).shape == x.shape


def test_files_are_what_they_say(tmp_path) -> None:
    file = tmp_path / "mine.safetensors"
    options = {"latents": 6, "width": 4}
    save_weights(file, build_network("lq_vae", options), {"network": "lq_vae", "options": options})
    assert load_lq_vae(str(file)).network.latents == 6
    with pytest.raises(UserError, match="holds lq_vae, no atop: `weights` takes what `udc-robust train filter` wrote"):
        load_atop(str(file))
    with pytest.raises(UserError, match="unknown filter 'lq_vae_mni'"):
        load_lq_vae("lq_vae_mni")
    with pytest.raises(UserError, match="filter 'atop' takes other options"):
        build_network("atop", {"latents": 3})
    with pytest.raises(UserError, match=r"latents 0 and width 32 must be in 1\.\.1024"):
        build_network("lq_vae", {"latents": 0})
