"""Attacks on scenes: through the optics, against the changed scene, on what a poster can show, judged afresh."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scene_run import SIZE, block, config, make_workplace, run

from udc_robust.attacks import METHODS, THREATS, Linf, Streams, attack, objective
from udc_robust.attacks.objectives import OwnTruth
from udc_robust.config_file import check_config
from udc_robust.data.images import read_image, write_image
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.networks.weights import save_weights
from udc_robust.tasks import evaluate, write_report
from udc_robust.tasks.restoration import open_images
from udc_robust.tasks.restoration_scenes import Photographed, SceneSpace
from udc_robust.tasks.restoration_schema import DataConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_workplace(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def finished(place) -> Path:
    """A finished run with every kind of attack, and its report; not to be changed."""
    attacks = [
        "noise", {"method": "pgd", "steps": 6, "eot": 2}, {"method": "square", "steps": 3, "defences": ["none"]},
        {"method": "pgd", "name": "off", "steps": 3, "against": "clean", "defences": ["none"]},
        {"method": "pgd", "name": "elsewhere", "steps": 3, "access": "transfer", "sources": ["other"]},
        {"method": "pgd", "name": "draw", "objective": "towards", "target": "line", "detail": [3, 3, 8, 8], "steps": 2},
    ]  # fmt: skip
    network = torch.nn.Module()
    network.amount = torch.nn.Parameter(torch.tensor(0.8))
    save_weights(place / "other.safetensors", network, {})
    code = f"{place / 'sharpen.py'}:Sharpen"
    other = {"name": "other", "network": code, "weights": str(place / "other.safetensors")}
    out = run(
        place, "all", attacks=attacks, restorers=[{"name": "sharpen", "network": code}, other],
        defences=["none", {"kind": "blur", "restorers": ["sharpen"]}],
    )  # fmt: skip
    write_report([out])
    return out


def _rows(folder: Path, **wanted: str) -> list[dict[str, str]]:
    with open(folder / "results.csv", newline="") as handle:
        return [row for row in csv.DictReader(handle) if all(row[key] == value for key, value in wanted.items())]


def _space(place: Path, **changes) -> tuple[SceneSpace, torch.Tensor]:
    images = open_images(DataConfig.model_validate(block(place, **changes)))
    assert isinstance(images.space, SceneSpace)
    return images.space, torch.stack([images.load(i)[0] for i in range(2)])


def _sharp(x: torch.Tensor) -> torch.Tensor:
    mean = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, [1] * 4, mode="replicate"), 3, 1)
    return x + 1.5 * (x - mean)


def test_the_truth_is_the_changed_scene(place) -> None:
    space, x = _space(place, shot=0.0, read=0.0, shift_px=0.0)
    changed = (x + 4 / 255 * torch.rand_like(x)).clamp(0, 0.8)
    answer = space.photographed(lambda capture: capture)(changed)
    torch.testing.assert_close(answer[:, 3:], space.toned(changed))
    torch.testing.assert_close(answer[:, :3], space.captures(changed, [0, 1]))


def test_whoever_restores_what_is_there_loses_nothing(place) -> None:
    """A restorer that knows the scene follows every change of it, and no attack on the scene damages it."""
    space, x = _space(place, shot=0.0, read=0.0, shift_px=0.0)

    class Knows(Photographed):
        def forward(self, scenes, streams=None):
            answer = super().forward(scenes, streams)
            return torch.cat([answer[:, 3:], answer[:, 3:]], 1)

    goal, target = OwnTruth(objective("mse"), True), space.toned(x).repeat(1, 2, 1, 1)
    knows = Knows(space, lambda capture: capture)
    result = attack(knows, x, goal, space.bounded(Linf(4 / 255)), "pgd", target=target, seeds=[1, 2], steps=3)
    assert (result.linf > 3.9 / 255).all() and (result.adv_values == 0).all()


def test_rows_are_measured_against_the_changed_scene_and_by_photographs_nobody_attacked(finished, place) -> None:
    row = _rows(finished, restorer="sharpen", defence="none", attack="pgd", image="one")[0]
    folder = finished / "images" / "lamps" / "one" / "sharpen"
    _, x = _space(place)
    changed = torch.from_numpy(np.load(folder / "pgd-linf-4_255.input.npy")).permute(2, 0, 1)[None]
    assert (changed - x[:1]).abs().max() <= 4 / 255 + 1e-6
    answers = [_from_file(folder / f"pgd-linf-4_255.{role}.png") for role in ("output", "truth")]
    assert abs(float(psnr(*answers)) - float(row["psnr"])) < 1  # a draw of three, in 8 bits
    assert int(row["draws"]) == 3 and int(row["eot"]) == 2
    assert float(row["psnr"]) != float(row["psnr_to_original"])
    assert "straight through" in row["exactness"]


def _from_file(path: Path) -> torch.Tensor:
    return read_image(path).pixels[None].double()


def test_what_survives_is_what_the_optics_leave(finished, place) -> None:
    space, x = _space(place)
    for name in ("noise", "pgd"):
        row = _rows(finished, restorer="sharpen", defence="none", attack=name, image="two")[0]
        path = finished / "images" / "lamps" / "two" / "sharpen" / f"{name}-linf-4_255.input.npy"
        changed = torch.from_numpy(np.load(path)).permute(2, 0, 1)[None]
        scene, capture = (seen(changed) - seen(x[1:]) for seen in (space.toned, space.without_chance))
        rms = [float(change.square().mean().sqrt()) for change in (scene, capture)]
        assert float(row["survives"]) == pytest.approx(rms[1] / rms[0], rel=1e-4)
        assert float(row["capture_linf"]) == pytest.approx(float(capture.abs().max()), rel=1e-4)
        assert 0.05 < rms[1] / rms[0] < 1


def _cases() -> list[tuple[str, str]]:
    """Every method in every norm that scenes know, but for those that need files or other networks."""
    known = {name: method for name, method in METHODS.items() if name not in ("fixed", "prgf")}
    return [(name, norm) for name, method in known.items() for norm in method.norms if norm in ("linf", "l2")]


@pytest.mark.parametrize("name, norm", _cases())
def test_every_method_stays_within_its_budget_and_leaves_lamps_alone(place, name, norm) -> None:
    space, x = _space(place)
    few = {"steps": 2, "search_steps": 2, "queries": 20, "region": (2, 2, 9, 9), "diversity": 0.5}
    options = {key: value for key, value in few.items() if key in METHODS[name].options()}
    eps = torch.inf if METHODS[name].unbounded else {"linf": 4 / 255, "l2": 0.5}[norm]
    threat = space.bounded(THREATS[norm](eps))
    goal, target = OwnTruth(objective("mse"), True), space.toned(x).repeat(1, 2, 1, 1)
    told = {"target": target, "seeds": [1, 2], "eot": 2, "draws": 2}
    result = attack(space.photographed(_sharp), x, goal, threat, name, **told, **options)
    lamps = (x.amax(1, keepdim=True) > 0.8).expand_as(x)
    assert lamps.any() and torch.equal(result.x_adv[lamps], x[lamps])
    free = result.x_adv[~lamps]
    assert free.max() <= 0.8 + 1e-6
    torch.testing.assert_close(free * 255, (free * 255).round(), atol=1e-3, rtol=0)
    assert (threat.distance(x, result.x_adv) <= eps + 1e-5).all()
    assert result.linf.max() > 0 or name == "smooth_field"  # whose push is none where the truth moves along


def test_an_attack_does_more_than_noise_and_each_target_does_its_own(finished) -> None:
    def mean(name: str, column: str) -> float:
        rows = _rows(finished, restorer="sharpen", defence="none", attack=name)
        return sum(float(row[column]) for row in rows) / len(rows)

    assert mean("pgd", "psnr") < mean("noise", "psnr") - 0.1
    assert mean("off", "psnr_to_clean_output") < mean("noise", "psnr_to_clean_output")
    assert {row["against"] for row in _rows(finished, attack="off")} == {"clean"}


def test_the_report_says_where_budgets_live_and_what_survives(finished) -> None:
    page = (finished / "report.html").read_text()
    for words in (
        "changes the scene itself", "against the changed scene", "Left in the capture", "What the camera sees of that",
        "of the change by",
    ):  # fmt: skip
        assert words in page


def test_a_region_bounds_every_method_and_its_control(place) -> None:
    space, x = _space(place, region=[4, 6, 8, 10])
    goal, target = OwnTruth(objective("mse"), True), space.toned(x).repeat(1, 2, 1, 1)
    for name in ("noise", "fgsm", "square"):
        threat = space.bounded(Linf(4 / 255))
        options = {"steps": 3} if name == "square" else {}
        made = attack(space.photographed(_sharp), x, goal, threat, name, target=target, seeds=[1, 2], **options)
        change = made.x_adv - x
        assert change[:, :, 4:12, 6:16].abs().max() > 3.9 / 255
        change[:, :, 4:12, 6:16] = 0
        assert not change.any()


def test_the_judge_draws_other_photographs_than_the_attacker(place) -> None:
    """An attack on one known photograph holds for that one: on fresh ones it is worth less."""
    space, x = _space(place, shot=0.05, read=0.05)
    goal, target = OwnTruth(objective("mse"), True), space.toned(x).repeat(1, 2, 1, 1)
    victim = space.photographed(_sharp)
    told = {"target": target, "seeds": [1, 2], "judge_seeds": [5, 6], "steps": 10}
    known = attack(victim, x, goal, space.bounded(Linf(8 / 255)), "pgd", known_seed=True, **told)
    fresh = attack(victim, x, goal, space.bounded(Linf(8 / 255)), "pgd", draws=1, **told)
    assert (known.adv_values > fresh.adv_values).all()


def test_an_images_photographs_do_not_depend_on_its_batch(place) -> None:
    space, x = _space(place)
    victim = space.photographed(_sharp)
    together, alone = victim(x, Streams([3, 4])), victim(x[1:], Streams([4]))
    torch.testing.assert_close(together[1:], alone)


def test_lamps_and_what_lies_outside_the_region_get_no_gradient(place) -> None:
    space, x = _space(place, region=[0, 0, SIZE, 12])
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(space.photographed(_sharp)(x, Streams([0, 1])).square().sum(), x)
    free = (x.amax(1, keepdim=True) <= 0.8).expand_as(x).clone()
    free[..., 12:] = False
    assert (gradient[free] != 0).float().mean() > 0.9 and not gradient[~free].any()  # noise clips some black pixels


def test_captured_scenes_are_attacked_as_captures_are(place) -> None:
    alone = {"space": "capture", "shift_px": 0.0}
    out = run(place, "captured", alone, attacks=["noise"])
    row = _rows(out, attack="noise", image="one")[0]
    assert "survives" not in row and int(row["draws"]) == 1
    images = open_images(DataConfig.model_validate(block(place, **alone)))
    capture, truth = images.load(0)
    assert images.space is None and 15 < float(psnr(capture[None].double(), truth[None].double())) < 40
    torch.testing.assert_close(capture * 255, (capture * 255).round(), atol=1e-3, rtol=0)


def test_linear_scenes_have_budgets_in_radiance(place) -> None:
    out = run(place, "linear", {"domain": "linear"}, round_8_bit=False, eps=[0.01], attacks=["fgsm"])
    row = _rows(out, attack="fgsm", image="one")[0]
    assert float(row["linf"]) == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(UserError, match="round_8_bit: false"):
        run(place, "linear levels", {"domain": "linear"})


def test_photographs_are_what_a_screen_shows(place) -> None:
    write_image(place / "photos" / "card.png", torch.rand(3, 32, 32))
    data = {"hdr": str(place / "photos"), "domain": "srgb", "white": 2.0}
    images = open_images(DataConfig.model_validate(block(place, **data)))
    x, truth = images.load(0)
    assert x.min() >= 0 and x.max() <= 1
    torch.testing.assert_close(x * 255, (x * 255).round(), atol=1e-3, rtol=0)
    torch.testing.assert_close(truth.max(), torch.tensor(2 / 2.25), atol=0.02, rtol=0)  # the white of this screen
    with pytest.raises(UserError, match=r"has no linear light.*domain: srgb"):
        open_images(DataConfig.model_validate(block(place, hdr=str(place / "photos"))))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"kind": "pairs", "hdr": None, "lq": "a", "gt": "b"}, "nobody knows.*kind `scenes`"),
        ({"kind": "folder", "hdr": None, "lq": "a"}, "nobody knows.*`embedded`"),
        ({"hdr": None}, "needs `hdr`"),
        ({"space": "capture"}, "`shift_px` is for attacks on scenes"),
        ({"space": "capture", "shift_px": 0, "region": [0, 0, 4, 4]}, "`region` is for attacks on scenes"),
        ({"crop": 16}, "scenes have a `size`"),
        ({"white": 0}, "white"),
        ({"bits": 12}, "bits"),
        ({"shot": -1}, "shot"),
        ({"space": "scenery"}, "space"),
    ],
)
def test_keys_that_make_no_sense_are_refused(place, changes, words) -> None:
    with pytest.raises(UserError, match=words) as refused:
        check_config(block(place, **changes), DataConfig, "test")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"size": 6}, r"PSF .*psf.npy has 7 px and the scenes have 6.*set `size: 7`"),
        ({"size": 64}, "smaller than its `size` 64"),
        ({"region": [0, 0, SIZE + 1, 4]}, "region .* reaches out of images"),
        ({"region": [0, 0, 4]}, "must be"),
        ({"size": 300}, "lower `size`"),
    ],
)
def test_scenes_that_cannot_be_photographed_are_refused(place, changes, words) -> None:
    with pytest.raises(UserError, match=words) as refused:
        open_images(DataConfig.model_validate(block(place, **changes)))
    assert "\n" not in str(refused.value)


def test_budgets_that_scenes_do_not_know_are_refused(place) -> None:
    attacks = [{"method": "ppgd", "norm": "lpips_squeeze", "eps": 0.1}]
    with pytest.raises(UserError, match=r"live in its scenes|LPIPS|lpips"):
        evaluate(config(place, attacks=attacks), place / "perceptual")
    with pytest.raises(UserError, match=r"tuned on captures"):
        config(place, validation=block(place))


def test_corruptions_are_left_out_of_scenes(place, capsys) -> None:
    out = run(place, "corrupted", attacks=["fgsm"], corruptions=["jpeg"])
    assert "meets no corruptions" in capsys.readouterr().err.replace("\n", " ")
    assert not (out / "corruptions.csv").exists()
