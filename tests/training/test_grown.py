"""A larger network that begins as a smaller one."""

from __future__ import annotations

import pytest
import torch

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import RestorerSpec, build_network, load_restorer
from udc_robust.training.finetune import finetune
from udc_robust.training.finetune_config import FinetuneConfig
from udc_robust.training.grown import grown

SMALL = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
MORE = {"enc_blk_nums": [2], "middle_blk_num": 3}


@pytest.fixture
def file(tmp_path):
    """A tiny NAFNet whose blocks do something: it is not as it began."""
    torch.manual_seed(0)
    network = build_network("NAFNet", SMALL)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    path = tmp_path / "small.safetensors"
    save_weights(path, network, {"network": "NAFNet", "options": SMALL, "domain": "srgb"})
    return path


def _loaded(path):
    return load_restorer(RestorerSpec("small", weights=str(path)), "srgb")


def test_it_answers_as_before_and_has_more_blocks_that_learn(file) -> None:
    x = torch.rand(2, 3, 20, 24)
    before = _loaded(file)
    large = grown(_loaded(file), MORE, "small")
    assert large.architecture == {"network": "NAFNet", "options": {**SMALL, **MORE}}
    assert len(large.network.encoders[0]) == 2 and len(large.network.middle_blks) == 3
    with torch.no_grad():
        torch.testing.assert_close(large(x), before(x))
    large.train()
    large(x).square().mean().backward()
    new = large.network.middle_blks[2]
    assert new.beta.grad.abs().max() > 0 and new.gamma.grad.abs().max() > 0


def test_a_hardened_checkpoint_knows_its_own_size(file, sets) -> None:
    values = {
        "name": "large", "parent": str(file), "grow": MORE, "train": str(sets / "train"), "recipe": "adversarial",
        "validation": str(sets / "validation"), "patch_size": 16, "batch_size": 2, "steps": 4, "inner_steps": 1,
        "validation_crops": 1, "validation_size": 16, "warmup": 1,
    }  # fmt: skip
    facts = finetune(check_config(values, FinetuneConfig, "test"), sets / "out")
    made = _loaded(sets / "out" / "large.safetensors")
    assert made.architecture["options"] == {**SMALL, **MORE} == facts["options"]
    assert made.parent == "small"
    assert "begun as the parent with more blocks" in (sets / "out" / "large.md").read_text()
    new = made.network.middle_blks[2]
    assert new.beta.abs().max() > 0, "new blocks learn too"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 8}, "would not keep"),
        ({"middle_blk_num": 0}, "would not keep"),
        ({}, "adds nothing"),
        ({"middle_blk_num": 1}, "adds nothing"),
        ({"blocks": 3}, "blocks"),
    ],
)
def test_what_is_no_larger_network_is_refused(file, options, told) -> None:
    with pytest.raises(UserError, match=told):
        grown(_loaded(file), options, "small")


def test_new_blocks_that_change_the_answer_are_refused(tmp_path) -> None:
    code = tmp_path / "net.py"
    code.write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, count: int = 1):\n"
        "        super().__init__(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(count)))\n"
    )
    path, network = tmp_path / "own.safetensors", f"{code}:Net"
    torch.manual_seed(0)
    save_weights(path, build_network(network, {"count": 1}), {"options": {"count": 1}})
    spec = RestorerSpec("own", network=network, options={"count": 1}, weights=str(path))
    with pytest.raises(UserError, match="not the identity, which those of NAFNet are"):
        grown(load_restorer(spec, "srgb"), {"count": 2}, "own")
