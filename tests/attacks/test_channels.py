"""Channels: they stay in the budget, take away what they are meant to, and a learnt one is read back as it was."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from udc_robust.attacks import Linf, Streams, attack, objective, round_to_8_bits
from udc_robust.attacks.channels import CHANNELS, Jammer, find_channel

EPS = 4 / 255
THREAT = Linf(EPS)


def _captures(rows: int = 3, side: int = 24) -> torch.Tensor:
    return torch.randint(256, (rows, 3, side, side), generator=torch.Generator().manual_seed(0)) / 255


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_stays_in_the_budget_and_an_image_does_not_depend_on_its_neighbours(name) -> None:
    x = _captures()
    jammed = CHANNELS[name](x, THREAT, Streams([1, 2, 3]))
    assert (jammed - x).abs().amax((1, 2, 3)).sub(EPS).abs().max() < 1e-6  # all of it is used, and no more
    assert jammed.min() >= 0 and jammed.max() <= 1
    torch.testing.assert_close(CHANNELS[name](x[1:2], THREAT, Streams([2])), jammed[1:2])
    other = CHANNELS[name](x, THREAT, Streams([4, 5, 6]))
    assert torch.equal(other, jammed) == (name in ("blur", "bins"))


def test_bins_make_nine_levels_one() -> None:
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    jammed = (CHANNELS["bins"](levels, THREAT, Streams([0])) * 255).round()[0, 0].flatten()
    assert jammed[:9].tolist() == [4] * 9 and jammed[9:18].tolist() == [13] * 9 and len(jammed.unique()) == 29


def test_the_blur_takes_away_detail_that_is_finer_than_the_budget() -> None:
    smooth = torch.linspace(0.3, 0.6, 32).expand(1, 3, 32, 32)
    detail = EPS * 0.9 * (torch.arange(32) % 2 * 2.0 - 1)
    jammed = CHANNELS["blur"](smooth + detail, THREAT, Streams([0]))
    inner = (..., slice(None), slice(12, 20))
    assert (jammed - smooth)[inner].abs().max() < 0.002 < detail.abs().min()


def test_smooth_fields_are_smooth_and_shifted() -> None:
    changes = CHANNELS["fields"](torch.full((8, 3, 48, 48), 0.5), THREAT, Streams(range(8))) - 0.5
    steps = changes.diff(dim=-1).abs().flatten(1).mean(1) / EPS
    assert steps.max() < 0.5  # of random signs it is 1
    means = changes.flatten(1).mean(1) / EPS
    assert means.min() < -0.2 and means.max() > 0.2 and means.unique().numel() == 8


def test_a_jammer_draws_from_noise_of_every_scale_each_image_its_own() -> None:
    x, streams = _captures(2, 80), Streams([1, 2])
    noise = Jammer.noise(x, streams)
    assert noise.shape == (2, 15, 80, 80) and not torch.equal(noise, Jammer.noise(x, streams))  # drawn on
    torch.testing.assert_close(Jammer.noise(x[1:], Streams([2])), noise[1:])
    roughness = noise.diff(dim=-1).abs().mean((0, 2, 3)).view(5, 3).mean(1)
    assert (roughness[1:] < 0.7 * roughness[:-1]).all() and roughness[-1] < 1e-6 and noise[:, -3:].std() > 0.1
    jammer = Jammer(4)
    assert not torch.equal(jammer(x, noise), jammer(x, noise.flip(0)))


def test_as_an_attack_it_is_not_chosen_by_its_damage() -> None:
    x = _captures()
    for name in CHANNELS:
        result = attack(lambda x: x, x, objective("mse"), THREAT, "channel", target=x, seeds=range(3), channel=name)
        again = round_to_8_bits(THREAT, x, result.x_adv)
        assert torch.equal(again, result.x_adv) and (result.x_adv - x).abs().max() <= EPS + 1e-6
        assert (result.adv_values > result.clean_values).all()


def test_a_jammer_is_read_back_and_what_is_none_is_refused(tmp_path) -> None:
    torch.manual_seed(0)
    jammer = Jammer(5)
    save_file(jammer.state_dict(), tmp_path / "j.safetensors")
    x = _captures()
    again = find_channel(str(tmp_path / "j.safetensors"))(x, THREAT, Streams([1, 2, 3]))
    torch.testing.assert_close(again, jammer.through(x, THREAT, jammer.noise(x, Streams([1, 2, 3]))).detach())
    assert 0 < (again - x).abs().max() <= EPS + 1e-6 and not again.requires_grad
    for content in ({}, {"body.0.weight": torch.ones(4, 3, 3, 3)}, {"body.0.weight": torch.ones(())}):
        save_file(content, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match="holds no jammer"):
            find_channel(str(tmp_path / "other.safetensors"))
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for file in ("empty.safetensors", "none.safetensors"):
        with pytest.raises(ValueError, match="is no safetensors file of a jammer"):
            find_channel(str(tmp_path / file))
    with pytest.raises(ValueError, match="channel 'blurr' is none of blur, fields"):
        find_channel("blurr")
    with pytest.raises(ValueError, match="channel 'blurr' is none of"):
        attack(lambda x: x, x, objective("mse"), THREAT, "channel", target=x, seeds=range(3), channel="blurr")
