"""What is possible: caps of a restorer that is faithful by force, pairs that hold, resuming, and what is refused."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.data.images import read_image, write_image
from udc_robust.data.samples import PairedFolders
from udc_robust.data.scene_sets import SceneSet
from udc_robust.data.scenes import make_pair
from udc_robust.data.synth import SynthSettings, synthesise
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.optics.capture import inverse_tone_map, tone_map
from udc_robust.optics.two_scenes import View, Window, ceiling, total_variation
from udc_robust.tasks import limits_pairs
from udc_robust.tasks import limits_study as limits
from udc_robust.tasks.limits_words import means, sentence

EPS = 4 / 255
DATA = {"kind": "embedded", "limit": 3, "size": 32}  # the third of them stands before the second in tables
FAITHFUL = """
import torch

class Faithful(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x - 0.02 * self.scale
"""


@pytest.fixture(scope="module")
def faithful(tmp_path_factory):
    file = tmp_path_factory.mktemp("own") / "own.py"
    file.write_text(FAITHFUL)
    return {"name": "faithful", "network": f"{file}:Faithful"}


@pytest.fixture(scope="module")
def studied(tmp_path_factory, faithful):
    folder = tmp_path_factory.mktemp("studied")
    return folder, _study(folder, faithful)


def _study(folder, restorer, **changes):
    settings = {"data": DATA, "eps": "4/255", "steps": 1, "search_steps": 80, "l2": 0, **changes}
    return limits.study(restorer, settings.pop("data"), settings.pop("eps"), folder / "out", **settings)


def test_the_formula_is_what_a_shift_does_to_a_faithful_restorer() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 3, 16, 16, generator=generator, dtype=torch.float64)
    answer = truth + 0.05 * torch.randn(truth.shape, generator=generator, dtype=torch.float64) - 0.01
    clean, error = psnr(answer, truth).item(), (answer - truth).mean().item()
    shifted = [psnr(answer + sign * EPS, truth).item() for sign in (1, -1)]
    assert error < 0 and limits.faithful_cap(clean, error, EPS) == pytest.approx(min(shifted))
    assert limits.faithful_cap(clean, -error, EPS) == pytest.approx(min(shifted))
    assert limits.faithful_cap(math.inf, 0, EPS) == pytest.approx(-20 * math.log10(EPS))


def test_caps_are_of_each_image_and_the_pairs_are_its_own(studied) -> None:
    tmp_path, found = studied
    keys = EmbeddedPairs(count=3, size=32).keys()
    assert sorted(one.image for one in found) == sorted(keys) != keys
    for one in found:
        assert one.cap == min(one.brightness, one.smooth_field) and one.undefended <= one.cap < one.clean
        # What clips at white or black moves less.
        assert one.faithful_cap - 0.05 <= one.brightness < one.faithful_cap + 1
        before, after = (10 ** (-figure / 20) for figure in (one.clean, one.undefended))
        assert one.kappa == pytest.approx((after - before) / EPS, rel=1e-4)
        assert one.reference_first == pytest.approx(one.clean, abs=1e-4)  # the pair of this image and not of another
        assert one.ceiling >= one.reference_shown  # which no restorer passes
        # Smaller sets of scenes have pairs that are no further apart.
        assert one.ceiling_restored >= one.ceiling and one.ceiling_smooth >= one.ceiling - 1
        assert 0 < one.levels <= 8 and 0 <= one.tight <= 1 and one.variation <= 1 + 1e-3
    with open(tmp_path / "out" / "limits.csv", newline="") as handle:
        rows = {row["image"]: row for row in csv.DictReader(handle)}
    assert all(float(rows[one.image]["ceiling"]) == pytest.approx(one.ceiling, rel=1e-5) for one in found)
    page = (tmp_path / "out" / "limits.md").read_text()
    assert sentence(found, "4/255", "faithful") in page and f"{means(found)['cap']:.2f}" in page and "vacuous" in page
    html = (tmp_path / "out" / "limits.html").read_text()
    assert html.count('<img src="data:image/png') == 5 * 3 and sentence(found, "4/255", "faithful") in html
    assert f"at most {min(one.ceiling for one in found):.2f} dB for any restorer" in html and "(Jensen)" in html
    assert (tmp_path / "out" / "limits.png").is_file()


def test_the_pictures_of_a_pair_are_the_proof(studied) -> None:
    tmp_path, found = studied
    for one in found:
        folder = tmp_path / "out" / "pairs" / one.image
        names = ("scene_1", "scene_2", "capture_1", "capture_2", "shown")
        first, second, *captures, shown = (read_image(folder / f"{name}.png").pixels.double() for name in names)
        assert ceiling(first, second) == pytest.approx(one.ceiling, abs=1e-4) and one.ceiling < 60
        assert all((shown - capture).abs().max() <= EPS + 1e-6 for capture in captures)
        assert total_variation(second) <= total_variation(first) + 0.5 * first.numel() ** 0.5  # its rim is not in it
        assert (folder / "pair.png").is_file()


def test_what_a_search_says_is_not_believed() -> None:
    """It is made smaller until its own rendering holds; what never holds is no pair."""
    scene, psf = inverse_tone_map(torch.full((3, 40, 40), 0.5)), torch.full((3, 5, 5), 1 / 25)
    scene[:, ::2, ::2] = 0.5
    window = Window(8, 8, 16)
    grey = tone_map(window.of(scene)).mean() - tone_map(window.of(scene))
    view = View(scene, psf, window)
    for change, holds in ((grey + 0.06, True), (0.1 * torch.ones(3, 16, 16).cumsum(1).remainder(2), False)):
        pair = limits_pairs.best_pair(view, scene, psf, window, EPS, change[None])
        assert (pair.captures[1] - pair.captures[0]).abs().max() <= 2 * EPS + 1e-6
        assert total_variation(pair.second) <= total_variation(pair.first)
        assert math.isfinite(pair.ceiling) == holds
    pair = limits_pairs.best_pair(view, scene, psf, window, EPS, (grey + 0.06)[None], lambda pair: pair.ceiling > 40)
    assert 40 < pair.ceiling < math.inf  # made smaller until it is accepted


def test_the_sentence_says_where_nothing_was_found(studied) -> None:
    _, found = studied
    assert f"{means(found)['ceiling']:.1f} dB is its ceiling" in sentence(found, "4/255", "faithful")
    lacking = [*found[1:], replace(found[0], ceiling=math.inf)]
    assert "no second scene that holds was found" in sentence(lacking, "4/255", "faithful")


def test_the_middle_is_within_the_budget_of_both() -> None:
    levels = torch.arange(9.0).expand(3, 9, 9)
    pair = limits_pairs.Pair(levels, levels, (levels / 255, torch.full_like(levels, 4 / 255)))
    for capture in pair.captures:
        assert ((pair.shown - capture) * 255).abs().max() <= 2 + 1e-4
    assert torch.equal((pair.shown * 255).round(), torch.floor((levels + 4) / 2))


def test_it_goes_on_where_it_was(tmp_path, faithful, monkeypatch) -> None:
    made = []

    def one_only(*arguments, **options):
        if len(made) == 1:
            raise KeyboardInterrupt
        return found(*arguments, **options)

    def found(scene, psf, window, *_, **__):
        made.append(window)
        dark = torch.zeros(3, 32, 32)
        pair = limits_pairs.Pair(dark, dark + 0.1 * len(made), (dark, dark))
        return pair, limits_pairs.PairFigures(pair.ceiling, *[30.0] * 8)

    monkeypatch.setattr(limits_pairs, "_search", one_only)
    with pytest.raises(KeyboardInterrupt):
        _study(tmp_path, faithful)
    assert not (tmp_path / "out" / "limits.csv").exists()
    monkeypatch.setattr(limits_pairs, "_search", found)
    again = _study(tmp_path, faithful)
    assert len(made) == 3  # only those that were missing
    monkeypatch.setattr(limits_pairs, "_search", None)
    assert _study(tmp_path, faithful) == again and {round(one.ceiling) for one in again} == {26, 20, 16}
    with pytest.raises(TypeError):
        _study(tmp_path, faithful, search_steps=81)  # another search is not that one


def test_a_camera_that_is_not_known_has_caps_only(tmp_path, faithful, capsys) -> None:
    for part, shift in (("gt", 0.0), ("lq", 0.1)):
        write_image(tmp_path / part / "a.png", torch.full((3, 16, 16), 0.5) + shift)
    (one,) = _study(tmp_path, faithful, data={"kind": "pairs", "lq": [tmp_path / "lq"], "gt": tmp_path / "gt"})
    assert one.ceiling is None and one.cap < one.clean
    assert "sets of `udc-robust synth` with --scenes" in " ".join(capsys.readouterr().err.split())
    assert "ceiling" not in sentence([one], "4/255", "faithful") and not (tmp_path / "out" / "pairs").exists()
    with pytest.raises(UserError, match="has no ground truth"):
        _study(tmp_path, faithful, data={"kind": "folder", "lq": [tmp_path / "lq"]})
    linear = {"kind": "pairs", "lq": [tmp_path / "lq"], "gt": tmp_path / "gt", "domain": "linear"}
    with pytest.raises(UserError, match="linear light"):
        _study(tmp_path, faithful, data=linear)


def test_a_set_of_ours_has_its_scenes_in_its_sources(tmp_path, faithful) -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("a", "b"):
        light = torch.rand(3, 12, 14, generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
        write_image(tmp_path / "stills" / f"{name}.npy", 0.4 * light + 1.1 * (light > 0.97))
    settings = SynthSettings(kind="hdr", per_source=1, size=64, difficulty=(10.0, 45.0))
    synthesise(tmp_path / "stills", tmp_path / "set", settings)
    pairs = PairedFolders(tmp_path / "set" / "lq", tmp_path / "set" / "gt")
    scenes = SceneSet(pairs, tmp_path / "stills", crop=24)
    for i, key in enumerate(scenes.keys()):
        scene, psf, window = scenes.placed(i)
        assert window == Window(20, 20, 24) and key == pairs.keys()[i]
        capture, truth = make_pair(scene, psf)
        torch.testing.assert_close(capture, pairs[i].lq, atol=1e-6, rtol=0)
        torch.testing.assert_close(truth, pairs[i].gt, atol=1e-6, rtol=0)
    data = {"kind": "pairs", "lq": [tmp_path / "set" / "lq"], "gt": tmp_path / "set" / "gt", "crop": 24, "limit": 1}
    (one,) = _study(tmp_path, faithful, data=data, scenes=tmp_path / "stills", search_steps=20)
    assert one.ceiling is not None and one.reference_first == pytest.approx(one.clean, abs=1e-3)
    manifest = tmp_path / "set" / "manifest.json"
    content = json.loads(manifest.read_text())

    def refused(told: str, **changes) -> None:
        manifest.write_text(json.dumps({**content, **changes}))
        with pytest.raises(UserError, match=told):
            SceneSet(pairs, tmp_path / "stills").placed(0)

    refused("does not tell of the scenes", pairs=[])
    refused("does not tell of the scenes", settings=None)
    refused("captures with noise", settings={**content["settings"], "shot": 0.01})
    refused("has no c.npy, which", pairs=[{**entry, "source": "c.npy"} for entry in content["pairs"]])
    refused("is not what .*a.npy looks like", pairs=[{**entry, "top": entry["top"] ^ 1} for entry in content["pairs"]])
    manifest.unlink()
    with pytest.raises(UserError, match=r"does not tell of the scenes of these images .*without --scenes"):
        SceneSet(pairs, tmp_path / "stills")


def test_large_images_go_in_tiles(tmp_path) -> None:
    file = tmp_path / "own.py"
    file.write_text(FAITHFUL.replace("x - 0.02 * self.scale", "x - 0.1 * self.scale * x.mean((2, 3), keepdim=True)"))
    restorer = {"name": "faithful", "network": f"{file}:Faithful"}
    changes = {"data": {**DATA, "limit": 1}, "search_steps": 20, "l2": 0.1}
    (whole,) = _study(tmp_path / "whole", restorer, **changes)
    (tiled,) = _study(tmp_path / "tiled", restorer, **changes, tile=16, overlap=0)
    assert abs(tiled.clean - whole.clean) > 0.01  # each tile has a mean of its own, and so for what follows:
    assert tiled.reference_first == pytest.approx(tiled.clean, abs=1e-4)
    assert tiled.faithful_cap - 0.1 <= tiled.brightness


@pytest.mark.parametrize("eps", ["0", "0.9/255"])
def test_a_budget_of_less_than_a_level_is_refused(tmp_path, faithful, eps) -> None:
    with pytest.raises(UserError, match=f"--eps {eps} is less than one level"):
        _study(tmp_path, faithful, eps=eps)
    assert not (tmp_path / "out").exists()
