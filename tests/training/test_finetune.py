"""Fine-tuning from a parent to a checkpoint: resuming, many processes, other networks, and mistakes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from udc_robust.attacks import Linf, attack, image_seed, objective
from udc_robust.config_file import check_config
from udc_robust.data.samples import PairedFolders, Sample
from udc_robust.defences.defence import Defended
from udc_robust.defences.purifier.pipeline import load_purifier
from udc_robust.errors import UserError
from udc_robust.files import sha256_of
from udc_robust.metrics import psnr
from udc_robust.networks.weights import read_weights, save_weights
from udc_robust.restorers import zoo
from udc_robust.restorers.zoo import RestorerSpec, build_network, load_restorer
from udc_robust.training import finetune as finetuning
from udc_robust.training import recipes
from udc_robust.training.finetune import finetune, load_teacher
from udc_robust.training.finetune_config import FinetuneConfig
from udc_robust.training.restorer import validate
from udc_robust.training.robust_figures import centre_crops, robust_figures

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def _parent(
    folder: Path, network: str = "NAFNet", options: dict | None = None, domain: str = "srgb"
) -> Path:  # fmt: skip
    options = options or TINY
    torch.manual_seed(0)
    path = folder / f"{network}.safetensors"
    save_weights(path, build_network(network, options), {"network": network, "options": options, "domain": domain})
    return path


def _values(sets, **changes) -> dict:
    return {
        "name": "hard", "parent": str(_parent(sets)), "train": str(sets / "train"), "recipe": "adversarial",
        "validation": str(sets / "validation"), "patch_size": 16, "batch_size": 4, "steps": 12, "lr": 0.003,
        "warmup": 2, "ema": 0.5, "inner_steps": 2, "validate_every": 8, "save_every": 5, "validation_crops": 2,
        "validation_size": 16, **changes,
    }  # fmt: skip


def _config(sets, **changes) -> FinetuneConfig:
    return check_config(_values(sets, **changes), FinetuneConfig, "test")


def _same(a: Path, b: Path) -> bool:
    one, other = (read_weights(path)[0] for path in (a, b))
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_leaves_a_checkpoint_that_serves_and_a_card_with_its_parent(sets) -> None:
    facts = finetune(_config(sets, steps=40, plain_share=0.25, eps=["2/255", "4/255"]), sets / "out")
    before, after = facts["parent_validation"], facts["validation"]
    assert before["psnr"] > before["attacked_psnr"]
    # Colour alone, of pairs that do not match in place, gives 5.8 and 5.4 dB.
    assert after["psnr"] > before["psnr"] + 7.5 and after["attacked_psnr"] > before["attacked_psnr"] + 6.4
    restorer = load_restorer(RestorerSpec("hard", weights=str(sets / "out" / "hard.safetensors")), "srgb")
    assert restorer.architecture == {"network": "NAFNet", "options": TINY}
    assert restorer.parent == "NAFNet" and restorer.parent_sha256 == sha256_of(sets / "NAFNet.safetensors")
    assert restorer.ancestors == {} and list(restorer.line.values()) == ["NAFNet"]
    assert not _same(sets / "NAFNet.safetensors", sets / "out" / "hard.safetensors")
    card = (sets / "out" / "hard.md").read_text()
    assert f"weights {restorer.parent_sha256}; recipe: `adversarial`" in card
    assert (
        "license: unknown" in card and "fine-tuned by the recipe `adversarial`, trained on `train` for 40 steps" in card
    )
    assert f"| PGD-10, crops | {before['attacked_psnr']:.2f} | {after['attacked_psnr']:.2f} |" in card
    assert json.loads(card.split("```json")[1].split("```")[0])["inner_steps"] == 2
    assert any((sets / "out").rglob("events.out.tfevents.*"))


def test_crops_are_the_centres_of_pairs_spread_over_the_set() -> None:
    images = [torch.rand(3, 10 + i, 13) for i in range(7)]
    pairs = [Sample(str(i), image, image / 2, "srgb", str(i)) for i, image in enumerate(images)]
    lq, gt = centre_crops(pairs, 3, 6)
    for crop, i in zip(lq, (0, 2, 4), strict=True):
        top = (10 + i - 6) // 2
        assert torch.equal(crop, images[i][:, top : top + 6, 3:9])
    assert torch.equal(gt, lq / 2) and len(centre_crops(pairs, 20, 6)[0]) == 7


def test_large_validation_images_are_taken_in_tiles(sets, large_pairs, shapes_seen) -> None:
    finetune(_config(sets, validation=str(large_pairs), steps=1, tile=64), sets / "out")
    assert (64, 64) in shapes_seen and (96, 80) not in shapes_seen


def test_figures_are_those_of_the_attacks_that_they_name() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 8, 9, generator=generator) for _ in range(5)]
    pairs = [Sample(str(i), image * 0.9, image, "srgb", str(i)) for i, image in enumerate(images)]
    eps, crops = 8 / 255, centre_crops(pairs, 5, 6)

    def victim(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(80 * torch.nn.functional.avg_pool2d(x, 3, 1, 1))  # more steps find more

    found = robust_figures(victim, pairs, crops, eps, torch.device("cpu"))
    lq, gt = crops
    seeds = [image_seed(0, str(i), "crop") for i in range(5)]
    noisy, attacked = (
        attack(victim, lq, objective("mse"), Linf(eps), method, target=gt, seeds=seeds, **options).adv_output
        for method, options in (("noise", {}), ("pgd", {"steps": 10}))
    )
    whole = torch.stack([pair.lq for pair in pairs]), torch.stack(images)
    expected = {
        "psnr": (victim(whole[0]), whole[1]), "crop_psnr": (victim(lq), gt), "noise_psnr": (noisy, gt),
        "attacked_psnr": (attacked, gt),
    }  # fmt: skip
    assert found == pytest.approx({name: psnr(*pair).mean().item() for name, pair in expected.items()}, abs=1e-3)


def test_what_a_recipe_is_given(sets, monkeypatch) -> None:
    """The network as deployed, in evaluation mode, and pairs whose colours are jittered alike."""
    given = []

    def spy(workshop, network, lq, gt, streams, step):
        given.append((workshop.restorer.training, workshop.restorer.network.training, lq, gt))
        return network(lq).mean()

    monkeypatch.setitem(recipes.RECIPES, "adversarial", spy)
    parent = _parent(sets)
    facts = finetune(_config(sets, parent=str(parent), steps=6, colour_jitter=0.2, lr=0.05), sets / "out")
    assert [modes for *modes, _, _ in given] == [[True, False]] * 6
    factors = torch.tensor([0.7, 0.8, 0.6]).view(3, 1, 1)  # of the set
    for _, _, lq, gt in given:
        inside = (gt > 0.2) & (gt < 0.99)
        assert (lq - gt * factors).abs()[inside].max() < 0.006
        assert lq.flatten(1).amax(1).unique().numel() == 4
    # The parent's figures are the parent's, not those of what was made of it.
    restorer = load_restorer(RestorerSpec("p", weights=str(parent)), "srgb")
    figures = validate(
        restorer, PairedFolders(*(sets / "validation" / part for part in ("lq", "gt"))), torch.device("cpu")
    )
    assert facts["parent_validation"]["psnr"] == pytest.approx(figures["psnr"], abs=1e-6)
    assert abs(facts["validation"]["psnr"] - figures["psnr"]) > 0.1


@pytest.mark.parametrize("low, high, middle", [(5, 9, 7), (5, 8, 6)])
def test_a_range_of_levels_is_validated_at_its_middle(low, high, middle, sets, tiny_purifier, monkeypatch) -> None:
    levels, true_figures = [], finetuning.robust_figures

    def spy(victim, *about):
        assert about[2] == config.validation_eps
        levels.append(victim.defence.plan.noise_level if isinstance(victim, Defended) else None)
        return true_figures(victim, *about)

    monkeypatch.setattr(finetuning, "robust_figures", spy)
    purifier = {"name": str(tiny_purifier), "noise_level": [low, high]}
    config = _config(sets, recipe="purified", purifier=purifier, steps=2, validation_eps="3/255")
    finetune(config, sets / "out")
    assert levels == [middle, None]
    assert config.purifier is not None and config.purifier.deployed_level == middle


def test_a_recipe_through_a_purifier_is_validated_through_it(sets, tiny_purifier, capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(sets))
    purifier = {"name": str(tiny_purifier), "noise_level": [58, 60], "samples": 2}
    changes = {"recipe": "both", "purifier": purifier, "perceptual": 0.1, "colour_jitter": 0.05, "steps": 2}
    changes["lr"] = 1e-9
    facts = finetune(_config(sets, **changes), sets / "out")
    assert facts["perceptual"] is False and "no perceptual loss: VGG-19 is not at" in capsys.readouterr().err
    assert "behind purifier" in (sets / "out" / "hard.md").read_text()
    # The weights hardly moved, so the difference is that of an untrained purifier.
    assert facts["validation"]["psnr"] < facts["parent_validation"]["psnr"] - 0.3


def test_a_learnt_channel_is_left_beside_its_restorer_and_can_be_the_channel_of_another(sets, capsys) -> None:
    changes = {"recipe": "jammer", "channel": "learnt", "eps": "8/255", "validation_eps": "8/255", "lr": 0.01}
    facts = finetune(_config(sets, **changes), sets / "out")
    figures, file = facts["validation"], sets / "out" / "hard_jammer.safetensors"
    before = facts["parent_validation"]  # the restorer knows the channel by now; its parent does not
    assert f", behind the channel {figures['channel_psnr']:.2f} dB" in capsys.readouterr().err
    assert before["channel_psnr"] < before["crop_psnr"] - 0.2 and figures["channel_psnr"] > before["channel_psnr"] + 1
    assert (
        f"| after the channel, crops | {facts['parent_validation']['channel_psnr']:.2f} |"
        in (sets / "out" / "hard.md").read_text()
    )
    parameters = sum(part.numel() for part in build_network("NAFNet", TINY).parameters())
    assert facts["parameters"] == parameters  # of what is shipped
    restorer = load_restorer(RestorerSpec("hard", weights=str(sets / "out" / "hard.safetensors")), "srgb")
    again = _config(sets, **{**changes, "channel": str(file), "parent": str(sets / "out" / "hard.safetensors")})
    started = finetune(again, sets / "again")["parent_validation"]
    assert restorer.parent == "NAFNet" and started["channel_psnr"] == pytest.approx(figures["channel_psnr"], abs=1e-3)
    relearnt = load_restorer(RestorerSpec("hard", weights=str(sets / "again" / "hard.safetensors")), "srgb")
    assert restorer.channel == relearnt.channel == "hard_jammer"


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"recipe": "jammer"}, "recipe 'jammer' needs a `channel`"),
        ({"channel": "blur"}, "recipe 'adversarial' takes no `channel`: leave it out, or choose jammer"),
        ({"recipe": "jammer", "channel": "blurr"}, "channel 'blurr' is none of blur, fields, signs, bins"),
        ({"recipe": "jammer", "channel": "none.safetensors"}, "none.safetensors is no safetensors file of a jammer"),
        ({"recipe": "jammer", "channel": "blur", "eps": ["1/255", "4/255"]}, "has one budget"),
        ({"recipe": "jammer", "channel": "blur", "norm": "l2"}, "has one budget"),
        ({"recipe": "jammer", "channel": "learnt", "plain_share": 0.4}, "leave out `plain_share`"),
    ],
)
def test_what_a_jammer_cannot_be_is_told_in_a_line(sets, changes, told) -> None:
    with pytest.raises(UserError) as error:
        _config(sets, **changes)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_purifier_learns_before_a_restorer_that_stays(sets, tiny_purifier) -> None:
    parent = _parent(sets)
    before = read_weights(parent)[0]
    changes = {"recipe": "purifier", "purifier": {"name": str(tiny_purifier), "noise_level": 5}, "channels_last": True}
    facts = finetune(_config(sets, steps=60, **changes), sets / "out")
    hardened = load_purifier(sets / "out" / "hard")
    assert hardened.config["noise_level"] == 5 and not (sets / "out" / "hard.safetensors").exists()
    written = json.loads((sets / "out" / "hard" / "unet" / "config.json").read_text())
    # Cards travel: the last two parts of a path, not where it lay on this machine.
    assert written["_name_or_path"] == "/".join(tiny_purifier.parts[-2:])
    old = load_purifier(tiny_purifier).unet.state_dict()
    assert any(not torch.equal(old[name], tensor) for name, tensor in hardened.unet.state_dict().items())
    assert all(torch.equal(before[name], tensor) for name, tensor in read_weights(parent)[0].items())
    card = (sets / "out" / "hard" / "README.md").read_text()
    assert "a purifier that began as" in card and f"| {facts['validation']['attacked_psnr']:.2f} |" in card
    first = {"steps": 1, "lr": 1e-9, "name": "same"}
    untrained = finetune(_config(sets, **{**changes, **first}), sets / "untrained")["validation"]
    assert facts["validation"]["attacked_psnr"] > untrained["attacked_psnr"] + 1


def test_a_stopped_finetuning_resumes_to_the_same_weights(sets, tiny_purifier, monkeypatch) -> None:
    config = _config(sets, recipe="both", purifier={"name": str(tiny_purifier), "noise_level": [5, 9]}, plain_share=0.2)
    finetune(config, sets / "whole")
    true_recipe, calls = recipes.RECIPES["both"], []

    def stops(*args):
        calls.append(1)
        if len(calls) > 8:  # after the state of step 5, before that of step 10
            raise KeyboardInterrupt
        return true_recipe(*args)

    monkeypatch.setitem(recipes.RECIPES, "both", stops)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, sets / "stopped")
    monkeypatch.setitem(recipes.RECIPES, "both", true_recipe)
    finetune(config, sets / "stopped")
    assert _same(sets / "whole" / "hard.safetensors", sets / "stopped" / "hard.safetensors")


@pytest.mark.parametrize(
    "network, options",
    [
        ("Restormer", {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]}),
        ("DISCNet", {"nf": 4, "kernel_cond": "img", "multi_scale": True}),
    ],
)
def test_networks_of_other_families(sets, network, options) -> None:
    parent = _parent(sets, network, options, "tonemapped")  # of sRGB images
    finetune(_config(sets, parent=str(parent), steps=2, inner_steps=1, recipe="trades"), sets / "out")
    assert not _same(parent, sets / "out" / "hard.safetensors")
    made = load_restorer(RestorerSpec("hard", weights=str(sets / "out" / "hard.safetensors")), "srgb")
    assert (made.domain, made.network_domain) == ("srgb", "tonemapped")


def test_mistakes_in_parent_data_and_purifier(sets, tiny_purifier, tmp_path) -> None:
    other = _parent(sets, "NAFNet", {**TINY, "width": 8})
    cases = [
        ({"parent": "nafnet_mimi"}, "unknown parent 'nafnet_mimi': did you mean 'nafnet_mini'"),
        (
            {"recipe": "distilled", "teacher": "nafnet_mimi"},
            "unknown teacher 'nafnet_mimi': did you mean 'nafnet_mini'",
        ),
        ({"network": "DISCNet", "options": {}}, "does not fit DISCNet"),
        ({"batch_size": 9}, r"batch_size 9 is larger than the data \(8 pairs\)"),
        ({"validation_size": 64}, "lower `validation_size` 64"),
        ({"recipe": "both", "purifier": "purifier_minni"}, "unknown purifier"),
        ({"recipe": "both", "purifier": {"name": str(tiny_purifier), "noise_level": 61}}, "noise_level 61"),
        ({"recipe": "purifier", "purifier": {"noise_level": [3, 5]}}, "one `purifier.noise_level`"),
    ]
    for change, message in cases:
        values = {"parent": str(other), **change}
        with pytest.raises(UserError, match=message):
            finetune(_config(sets, **values), tmp_path / "out")
    facts = tiny_purifier / "facts.json"
    before = facts.read_text()
    facts.write_text('{"domain": "tonemapped"}')
    try:
        with pytest.raises(UserError, match="learnt tonemapped images, but these are srgb"):
            finetune(_config(sets, recipe="purified", purifier=str(tiny_purifier)), tmp_path / "out")
    finally:
        facts.write_text(before)


def test_a_student_comes_near_its_teacher(sets) -> None:
    (sets / "taught").mkdir()
    teacher = _parent(sets / "taught", options=TINY | {"width": 8})
    changes = {"recipe": "distilled", "teacher": str(teacher), "loss": "l1", "beta": 50, "steps": 40, "inner_steps": 1}
    facts = finetune(_config(sets, **changes, eps="0.1/255"), sets / "out")
    lq = PairedFolders(sets / "validation" / "lq", sets / "validation" / "gt")[0].lq[None]
    answers = [load_restorer(RestorerSpec("x", weights=str(path)), "srgb")(lq)
        for path in (teacher, _parent(sets), sets / "out" / "hard.safetensors")]  # fmt: skip
    before, after = ((answers[0] - answer).abs().mean().item() for answer in answers[1:])
    assert after < 0.5 * before and facts["finetuning"] == "distilled"


def test_the_members_of_a_mean_train_as_one(sets, monkeypatch) -> None:
    """Each gets its gradient through the mean, unclamped; what is left is one file that knows its line."""
    (sets / "wide").mkdir()
    files = [str(_parent(sets)), str(_parent(sets / "wide", options=TINY | {"width": 8}))]
    described = sets / "two.yaml"
    described.write_text(json.dumps({"name": "two", "network": "mean_of", "options": {"of": files}}))
    for module in (zoo, finetuning):
        monkeypatch.setattr(module, "shipped_means", lambda: {"two": described})
    given, plain = [], recipes.adversarial

    def spy(setup, network, *rest):
        given.append([(part.training, part.network.training) for part in network.network.members])
        return plain(setup, network, *rest)

    monkeypatch.setitem(recipes.RECIPES, "adversarial", spy)
    facts = finetune(_config(sets, parent="two", steps=40), sets / "out")
    assert given == [[(True, False)] * 2] * 40
    before, after = facts["parent_validation"], facts["validation"]
    assert after["psnr"] > before["psnr"] + 3 and after["attacked_psnr"] > before["attacked_psnr"] + 3
    made = load_restorer(RestorerSpec("made", weights=str(sets / "out" / "hard.safetensors")), "srgb")
    whole = load_restorer(RestorerSpec("two"), "srgb")
    assert (made.parent, made.parent_sha256) == ("two", whole.sha256)
    assert made.ancestors == whole.line and whole.line
    for member, old in zip(made.network.members, whole.network.members, strict=True):
        pairs = zip(member.parameters(), old.parameters(), strict=True)
        assert all(not torch.equal(new, was) for new, was in pairs)
    for file in files:  # it needs none of them
        Path(file).unlink()
    made = load_restorer(RestorerSpec("made", weights=str(sets / "out" / "hard.safetensors")), "srgb")
    lq = PairedFolders(sets / "validation" / "lq", sets / "validation" / "gt")[0].lq[None]
    assert made.trained and not torch.equal(made(lq), whole(lq))


def test_a_mean_that_ships_may_teach() -> None:
    x = torch.rand(1, 3, 32, 32)
    teacher, same = load_teacher("hardened_mean", "srgb"), load_restorer(RestorerSpec("hardened_mean"), "srgb")
    assert teacher.network_domain == "tonemapped" and torch.equal(teacher(x), same(x))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"recipe": "both"}, "recipe 'both' needs a `purifier`"),
        ({"purifier": "x"}, "takes no `purifier`: leave it out, or choose purified or both or purifier"),
        ({"recipe": "distilled"}, "recipe 'distilled' needs a `teacher`"),
        ({"teacher": "x"}, "recipe 'adversarial' takes no `teacher`: leave it out, or choose distilled"),
        (
            {"recipe": "purifier", "purifier": "x", "grow": {"width": 8}},
            "leaves the restorer as it is: leave out `grow`",
        ),
        ({"grow": 5}, "grow"),
        ({"tile": 20}, "0 for whole images, or 64 and more"),
        ({"recipe": "trades", "loss": "psnr"}, "takes loss l1, l2 or charbonnier"),
        ({"eps": [0.1, 0.05]}, "eps must rise"),
        ({"eps": 4}, "did you mean 4/255"),
        ({"recipe": "adversrial"}, "unknown recipe 'adversrial': did you mean 'adversarial'"),
        ({"inner_step": 3}, "did you mean 'inner_steps'"),
    ],
)
def test_mistakes_in_the_config(sets, change, message) -> None:
    with pytest.raises(UserError, match=message):
        _config(sets, **change)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(sets, monkeypatch) -> None:
    true_recipe, calls = recipes.RECIPES["adversarial"], []

    def diverges(*args):
        calls.append(1)
        return true_recipe(*args) * (float("inf") if len(calls) > 7 else 1)

    monkeypatch.setitem(recipes.RECIPES, "adversarial", diverges)
    with pytest.raises(UserError, match=r"loss is inf at step 7: lower `lr`; the last state is .*state\.pt"):
        finetune(_config(sets), sets / "out")
    state = torch.load(sets / "out" / "state.pt", weights_only=True)
    assert state["step"] == 5 and all(part.isfinite().all() for part in state["network"].values())


def test_a_full_disk_is_told_and_the_last_state_stays(sets, monkeypatch) -> None:
    saved, true_save = [], torch.save

    def full(content, path):
        if saved:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved.append(path)
        true_save(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write .*state\.pt: No space left on device"):
        finetune(_config(sets), sets / "out")
    assert torch.load(sets / "out" / "state.pt", weights_only=True)["step"] == 5
    assert not [path for path in (sets / "out").iterdir() if path.name.endswith((".tmp", ".tmp.pt"))]
