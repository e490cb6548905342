"""Restorers by every name people use, and what is said when a name or an option is wrong."""

from __future__ import annotations

import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights
from udc_robust.optics.domains import convert
from udc_robust.restorers.basicsr_bridge import NETWORKS, import_basicsr
from udc_robust.restorers.weight_norm_names import published_state_dict
from udc_robust.restorers.zoo import (
    Restorer,
    RestorerSpec,
    build_network,
    find_network,
    load_restorer,
    shipped_checkpoints,
)

TINY = {"width": 4, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}


def test_every_network_of_ours_is_found_and_in_basicsrs_registry() -> None:
    registry = import_basicsr()
    for name in NETWORKS:
        assert find_network(name).__name__ == name and registry.get(name) is find_network(name)


def test_basicsrs_own_networks_work_by_name() -> None:
    network = build_network("SRVGGNetCompact_basicsr", {"num_feat": 8, "num_conv": 1, "upscale": 1})
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    assert (
        type(build_network("SRVGGNetCompact", {"num_feat": 8, "num_conv": 1, "upscale": 1})).__name__
        == "SRVGGNetCompact"
    )


def test_user_networks_by_dotted_path_and_file(tmp_path) -> None:
    assert find_network("torch.nn:Identity") is torch.nn.Identity
    assert find_network("torch.nn.Identity") is torch.nn.Identity
    (tmp_path / "mine.py").write_text("import torch\nclass Mine(torch.nn.Identity):\n    pass\n")
    restorer = load_restorer(RestorerSpec("mine", f"{tmp_path}/mine.py:Mine"), "srgb")
    x = torch.rand(1, 3, 5, 7)
    assert torch.equal(restorer(x), x) and restorer.network_domain == "srgb" and not restorer.trained


@pytest.mark.parametrize(
    "name, message",
    [
        ("NAFnet", "did you mean 'NAFNet'"),
        ("no.such.module:Net", "cannot import 'no.such.module'"),
        ("torch.nn:relu", "'torch.nn' has no 'relu'"),
        ("missing/file.py:Net", "cannot import"),
    ],
)
def test_unknown_networks(name, message) -> None:
    with pytest.raises(UserError, match=message):
        find_network(name)


def test_wrong_options_are_named() -> None:
    with pytest.raises(UserError, match=r"'NAFNet' does not take these options.*widht"):
        build_network("NAFNet", {"widht": 8})


def test_weights_that_know_their_network(tmp_path) -> None:
    network = build_network("NAFNet", TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {"network": "NAFNet", "options": TINY, "domain": "tonemapped"})
    restorer = load_restorer(RestorerSpec("tiny", weights=str(path)), "tonemapped")
    x = torch.rand(2, 3, 9, 13)
    assert restorer.trained and torch.equal(restorer(x), network.eval()(x).clamp(0, 1))
    srgb = load_restorer(RestorerSpec("tiny", weights=str(path)), "srgb")
    inside = network(convert(x, "srgb", "tonemapped"))
    assert torch.equal(srgb(x), convert(inside, "tonemapped", "srgb")) and srgb.network_domain == "tonemapped"
    assert not torch.allclose(srgb(x), inside) and not torch.allclose(inside, restorer(x))


def test_the_light_is_what_the_user_says_then_the_file_then_the_network_then_the_data(tmp_path) -> None:
    (tmp_path / "lit.py").write_text("import torch\nclass Lit(torch.nn.Identity):\n    domain = 'linear'\n")
    lit, path = f"{tmp_path}/lit.py:Lit", str(tmp_path / "net.safetensors")
    save_weights(
        path,
        torch.nn.Conv2d(3, 3, 1),
        {
            "network": "torch.nn:Conv2d",
            "domain": "tonemapped",
            "options": {"in_channels": 3, "out_channels": 3, "kernel_size": 1},
        },
    )
    for spec, expected in (
        (RestorerSpec("a", "torch.nn:Identity"), "srgb"),
        (RestorerSpec("a", lit), "linear"),
        (RestorerSpec("a", lit, domain="tonemapped"), "tonemapped"),
        (RestorerSpec("a", "torch.nn:Conv2d", weights=path), "tonemapped"),
        (RestorerSpec("a", "torch.nn:Conv2d", weights=path, domain="linear"), "linear"),
    ):
        assert load_restorer(spec, "srgb").network_domain == expected
    with pytest.raises(UserError, match="unknown domain 'sRGB': known are linear, raw, srgb, tonemapped"):
        load_restorer(RestorerSpec("a", lit, domain="sRGB"), "srgb")


@pytest.mark.parametrize("multiple, smallest, needed", [(1, 11, 11), (4, 11, 11), (8, 8, 1), (16, 4, 1), (1, 1, 1)])
def test_what_a_network_says_of_sizes_is_known(multiple, smallest, needed) -> None:
    class Choosy(torch.nn.Module):
        size_multiple, min_size, whole_image = multiple, smallest, multiple == 4
        seen: tuple[int, ...] = ()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = tuple(x.shape[-2:])
            return x

    network = Choosy()
    restorer = Restorer("choosy", network, domain="srgb", network_domain=None, trained=True, origin="test").eval()
    x = torch.rand(1, 3, 17, 23)
    assert torch.equal(restorer(x), x) and network.seen == tuple(-(-side // multiple) * multiple for side in (17, 23))
    assert restorer.min_size == needed and restorer.whole_image is (multiple == 4)


def test_a_published_networks_options_give_way_to_the_users() -> None:
    theirs = load_restorer(RestorerSpec("uformer_t"), "srgb").architecture["options"]
    ours = load_restorer(RestorerSpec("uformer_t", options={"embed_dim": 8}), "srgb").architecture
    assert ours == {"network": "Uformer", "options": {**theirs, "embed_dim": 8}} and theirs["embed_dim"] != 8


def test_only_networks_that_ask_for_it_are_laid_out_channels_last() -> None:
    theirs = build_network("torch.nn:Conv2d", {"in_channels": 3, "out_channels": 4, "kernel_size": 3})
    assert theirs.weight.is_contiguous()
    intro = build_network("NAFNet", TINY).intro.weight
    assert not intro.is_contiguous() and intro.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("domain, highest", [("srgb", 1), ("tonemapped", 1), ("linear", 500)])
def test_answers_are_clamped_to_their_domain_but_for_training(domain, highest) -> None:
    class Loud(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x - highest

    restorer = Restorer("loud", Loud(), domain=domain, network_domain=None, trained=True, origin="test")
    x = highest * torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1)
    assert torch.allclose(restorer.eval()(x).flatten(), highest * torch.tensor([0, 0.5, 1]))
    assert torch.allclose(restorer.train()(x).flatten(), highest * torch.tensor([-0.7, 0.5, 1.7]))


def test_weights_that_do_not_say(tmp_path) -> None:
    path = tmp_path / "bare.pth"
    torch.save(build_network("NAFNet", TINY).state_dict(), path)
    with pytest.raises(UserError, match="does not say which network it is: set `network`"):
        load_restorer(RestorerSpec("mine", weights=str(path)), "srgb")
    assert load_restorer(RestorerSpec("mine", "NAFNet", TINY, str(path)), "srgb").trained
    with pytest.raises(UserError, match="unknown restorer 'mine'"):
        load_restorer(RestorerSpec("mine"), "srgb")


@pytest.mark.parametrize("name", ["uformer_t", "bnudc", "discnet_img"])
def test_a_checkpoint_of_another_variant_is_recognised(name, tmp_path) -> None:
    theirs = load_restorer(RestorerSpec(name), "srgb").network.state_dict()
    torch.save({"params": published_state_dict(theirs)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=f"does not fit NAFNet.*it looks like '{name}'"):
        load_restorer(RestorerSpec("mine", "NAFNet", TINY, str(tmp_path / "net.pth")), "srgb")
    assert load_restorer(RestorerSpec(name, weights=str(tmp_path / "net.pth")), "srgb").trained


@pytest.mark.parametrize("name", ["uformer_t", "nafnet_mini", "discnet_mini"])
def test_a_bare_checkpoint_of_a_known_network_loads_and_says_as_what(name, tmp_path, capsys) -> None:
    theirs = load_restorer(RestorerSpec(name), "tonemapped")
    state = {f"module.{key}": tensor for key, tensor in published_state_dict(theirs.network.state_dict()).items()}
    torch.save({"model": state}, tmp_path / "net_g.pth")
    mine = load_restorer(RestorerSpec("net_g", weights=str(tmp_path / "net_g.pth")), "tonemapped")
    assert f"taken for {name} by its names and shapes" in capsys.readouterr().err
    x = torch.rand(1, 3, 32, 32)
    assert mine.trained and mine.network_domain == theirs.network_domain and torch.equal(mine(x), theirs(x))


def test_weights_for_the_kind_of_a_shipped_checkpoint(tmp_path) -> None:
    theirs = load_restorer(RestorerSpec("nafnet_mini"), "tonemapped").network.state_dict()
    torch.save({key: 2 * tensor for key, tensor in theirs.items()}, tmp_path / "mine.pth")
    for spec in (RestorerSpec("nafnet_mini", weights=str(tmp_path / "mine.pth")),
                 RestorerSpec("mine", "nafnet_mini", weights=str(tmp_path / "mine.pth"))):  # fmt: skip
        mine = load_restorer(spec, "srgb")
        assert mine.network_domain == "tonemapped"
        assert torch.equal(mine.network.intro.weight, 2 * theirs["intro.weight"])


def test_random_weights_depend_on_the_seed_only() -> None:
    a, b, c = (load_restorer(RestorerSpec("r", "NAFNet", TINY), "srgb", seed=s) for s in (1, 1, 2))
    assert torch.equal(a.network.intro.weight, b.network.intro.weight)
    assert not torch.equal(a.network.intro.weight, c.network.intro.weight)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_restorer(RestorerSpec("r", "NAFNet", TINY), "srgb")
    assert torch.equal(torch.rand(3), expected)  # nobody else's draws are changed


def test_shipped_checkpoints_load_and_are_small() -> None:
    assert {"nafnet_mini", "discnet_mini"} <= set(shipped_checkpoints())
    for name, path in shipped_checkpoints().items():
        largest = 20e6 if name == "nafnet_deep_hardened" else 8e6  # the best network reached may be larger
        assert path.stat().st_size < largest and path.with_suffix(".md").is_file()
        restorer = load_restorer(RestorerSpec(name), "tonemapped")
        assert restorer.trained and restorer(torch.rand(1, 3, 30, 34)).shape == (1, 3, 30, 34)
