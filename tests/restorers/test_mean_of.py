"""Several restorers as one: its answer, its colour domain, what it is told to be, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from udc_robust.cli.options import known_restorer, restorer_block
from udc_robust.errors import UserError
from udc_robust.files import sha256_of
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import (
    Restorer,
    RestorerSpec,
    build_network,
    load_restorer,
    parent_of_shipped,
    shipped_checkpoints,
    shipped_means,
)

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def mean_of(*of: str, domain: str = "srgb", **options) -> Restorer:
    return load_restorer(RestorerSpec("both", "mean_of", {"of": list(of), **options}), domain)


def tiny(folder: Path, seed: int, domain: str) -> str:
    torch.manual_seed(seed)
    network = build_network("NAFNet", TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    file = folder / f"tiny_{seed}.safetensors"
    save_weights(file, network, {"network": "NAFNet", "options": TINY, "domain": domain})
    return str(file)


def test_it_answers_with_the_mean_of_its_members_each_in_its_own_domain(tmp_path) -> None:
    files = [tiny(tmp_path, seed, domain) for seed, domain in enumerate(("srgb", "tonemapped", "srgb"))]
    x = torch.rand(2, 3, 13, 18)
    for domain in ("srgb", "tonemapped"):
        answers = [load_restorer(RestorerSpec("one", weights=file), "srgb") for file in files]
        restorer = mean_of(*files, domain=domain)
        assert restorer.network_domain == "srgb"  # the first one's
    assert torch.allclose(mean_of(*files)(x), torch.stack([answer(x) for answer in answers]).mean(0), atol=1e-6)
    assert mean_of(*files).trained
    with pytest.raises(UserError, match="leave `domain` away"):
        load_restorer(RestorerSpec("both", "mean_of", {"of": files}, domain="tonemapped"), "srgb")


def test_its_weights_and_its_line_belong_to_it(tmp_path) -> None:
    one, other = (tiny(tmp_path, seed, "srgb") for seed in (0, 1))
    restorer = mean_of("nafnet_mini_hardened", one)
    assert (restorer.parent, restorer.parent_sha256) == (
        "nafnet_mini_hardened", sha256_of(shipped_checkpoints()["nafnet_mini_hardened"]),
    )  # fmt: skip
    assert restorer.ancestors == {sha256_of(shipped_checkpoints()["nafnet_mini"]): "nafnet_mini"}
    assert restorer.whole_image and restorer.min_size == load_restorer(RestorerSpec("discnet_mini"), "srgb").min_size
    before = restorer.origin
    Path(one).write_bytes(Path(other).read_bytes())
    assert mean_of("nafnet_mini_hardened", one).origin != before


def test_a_mean_without_the_weights_of_its_own_is_told_to_be_untrained(tmp_path) -> None:
    built = load_restorer(
        RestorerSpec("both", **mean_of(*(tiny(tmp_path, i, "srgb") for i in (0, 1))).network.architecture), "srgb"
    )
    assert not built.trained and built.origin == "random weights, seed 0"


def test_an_attack_goes_through_all_members(tmp_path) -> None:
    files = [tiny(tmp_path, seed, "srgb") for seed in (0, 1)]
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    slopes = [
        torch.autograd.grad(load_restorer(RestorerSpec("one", weights=file), "srgb").train()(x).sum(), x)[0]
        for file in files
    ]
    both = mean_of(*files)
    for member in both.network.members:
        member.train()
    both.train()
    (slope,) = torch.autograd.grad(both(x).sum(), x)
    assert torch.allclose(slope, (slopes[0] + slopes[1]) / 2, atol=1e-5)


@pytest.mark.parametrize(
    "options, told",
    [
        ({}, "of"),
        ({"of": "nafnet_mini"}, "a list of two or more restorers"),
        ({"of": ["nafnet_mini"]}, "a list of two or more restorers"),
        ({"of": ["nafnet_mini", 3]}, "a list of two or more restorers"),
        ({"of": ["nafnet_mini", "nafnet_mimi"]}, "unknown restorer 'nafnet_mimi'"),
        ({"of": ["nafnet_mini", "NAFNet"]}, "'NAFNet' of the mean has no weights"),
        ({"of": ["nafnet_mini", "none.safetensors"]}, "no weights at none.safetensors"),
        ({"of": ["nafnet_mini", {"network": "NAFNet"}]}, "a list of two or more restorers"),
        ({"of": [{"network": "NAFNet"}] * 2}, "a member of a mean is a name, or `network`, `options` and `domain`"),
        ({"of": [{"network": "x.py:Net", "options": {}, "domain": "srgb"}] * 2}, "which is code of somebody's"),
        ({"of": ["nafnet_mini", "discnet_mini"], "weigths": 1}, "weigths"),
    ],
)
def test_mistakes_are_told(options, told) -> None:
    with pytest.raises(UserError, match=told):
        load_restorer(RestorerSpec("both", "mean_of", options), "srgb")


@pytest.mark.parametrize("name", sorted(shipped_means()))
def test_a_mean_that_ships_is_found_by_its_name(name) -> None:
    restorer = load_restorer(RestorerSpec(name), "tonemapped")
    facts = yaml.safe_load(shipped_means()[name].read_text())
    assert parent_of_shipped(name) == facts["options"]["of"][0]
    assert facts["name"] == name and restorer.architecture == {"network": "mean_of", "options": facts["options"]}
    assert restorer.trained and set(facts["options"]["of"]) <= set(shipped_checkpoints())
    assert restorer_block(name, None, None, None, None) == {"name": name} and known_restorer(name) == name
