"""Pairs rendered while a training runs: the same after a kill and on several processes, ever new, and clear errors."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.data.scenes import radiance_of
from udc_robust.errors import UserError
from udc_robust.optics.capture import tone_map
from udc_robust.optics.variation import MeasuredVariation
from udc_robust.training.batches import loader
from udc_robust.training.finetune import finetune
from udc_robust.training.finetune_config import FinetuneConfig
from udc_robust.training.render_config import Renders
from udc_robust.training.renders import FreshPairs


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    for i in range(2):
        write_image(tmp_path / "stills" / f"still{i}.npy", torch.rand(3, 40, 40) * (9 + 20 * i))
    return tmp_path / "stills"


def renders(stills: Path, **changes: object) -> Renders:
    values = {"sources": stills, "kind": "hdr", "size": 24, "difficulty": (0.0, 99.0), "window": 3, **changes}
    return Renders.model_validate(values)


def fresh(stills: Path, steps: int = 6, rank: int = 0, ranks: int = 1, **changes: object) -> FreshPairs:
    return FreshPairs(renders(stills, **changes), patch=16, batch=4, steps=steps, seed=3, rank=rank, ranks=ranks)


def test_a_training_that_goes_on_and_one_that_is_shared_see_the_same_pairs(stills: Path) -> None:
    whole = fresh(stills)
    batches = [whole[step] for step in range(6)]
    resumed, shared = fresh(stills), fresh(stills, rank=1, ranks=2)
    for one, other in zip(batches[4], resumed[4], strict=True):
        assert torch.equal(one, other)
    for step in range(6):
        assert all(torch.equal(a[1::2], b) for a, b in zip(batches[step], shared[step], strict=True))
    assert len({seed for *_, seeds in batches for seed in seeds.tolist()}) == 24


def test_a_worker_makes_the_same_batches(stills: Path) -> None:
    batches = fresh(stills)
    assert batches.workers == 1
    for step, batch in zip(range(2, 6), loader(batches, 2), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(batch, batches[step], strict=True))


@pytest.mark.parametrize("tolerances", [{}, {"turn": 2}])
def test_a_worker_that_does_not_fork_makes_the_same_batches(tolerances, stills: Path) -> None:
    batches = fresh(stills, psfs=["toled", "phone"], tolerances=tolerances)
    expected = batches[0]
    copy = pickle.loads(pickle.dumps(batches))
    assert all(torch.equal(one, other) for one, other in zip(copy[0], expected, strict=True))


def test_renders_come_and_go(stills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, used = fresh(stills, steps=40), []
    draw = batches._eight_bits
    monkeypatch.setattr(batches, "_render", lambda number: used.append(number) or draw(number))
    met = set()
    for step in range(40):
        batches[step]
        ages = {number - step for number in used}
        assert ages <= {0, 1, 2}
        met |= ages
        used.clear()
    assert met == {0, 1, 2}  # the whole window is drawn from


def test_captures_stay_captures_and_rows_are_crops_of_their_own(stills: Path) -> None:
    batches = FreshPairs(renders(stills, window=1), patch=24, batch=2, steps=3, seed=3)
    drawn, (lq, gt, _) = batches._draw(2), batches[2]
    for rows, image in ((lq, drawn.lq), (gt, drawn.gt)):
        torch.testing.assert_close(rows[0].flatten().sort().values, image.flatten().sort().values)
    assert len(fresh(stills)[0][0].flatten(1).unique(dim=0)) == 4


def test_every_source_and_both_of_a_pair_belong_together(stills: Path) -> None:
    truths = [tone_map(radiance_of(stills / f"still{i}.npy", "hdr")) for i in range(2)]
    batches, met = fresh(stills, steps=30), set()
    for number in range(30):
        drawn = batches._draw(number)
        top, left = drawn.view["top"], drawn.view["left"]
        for i, truth in enumerate(truths):
            same = truth[:, top : top + 24, left : left + 24]
            if torch.allclose(same, drawn.gt, atol=1 / 255):
                met.add(i)
    assert met == {0, 1}


def test_a_source_without_a_fitting_view_gives_way(stills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(stills / "flat.npy", torch.full((3, 40, 40), 9.0))  # behind any display it stays what it is
    batches = fresh(stills, difficulty=(0.0, 60.0), tries=1)
    assert all(batches._draw(number).kept for number in range(20))


def test_mistakes_are_named(stills: Path) -> None:
    with pytest.raises(UserError, match=r"train\.size 24 is smaller than patch_size 32"):
        FreshPairs(renders(stills), patch=32, batch=1, steps=1, seed=0)
    with pytest.raises(UserError, match=r"widen train\.difficulty"):
        fresh(stills, difficulty=(98.0, 99.0), tries=1)
    with pytest.raises(UserError, match="did you mean 'still1'"):
        fresh(stills, exclude=("stil1",))
    with pytest.raises(UserError, match="smaller than"):
        fresh(stills, size=64)


def test_a_finetuning_learns_from_renders(stills: Path, sets: Path, tmp_path: Path) -> None:
    (sets / "validation" / "manifest.json").write_text('{"domain": "tonemapped"}', encoding="utf-8")
    config = FinetuneConfig.model_validate(
        {
            "name": "mine", "parent": "nafnet_mini", "recipe": "noise", "train": renders(stills).model_dump(),
            "validation": sets / "validation", "patch_size": 16, "batch_size": 2, "steps": 2, "validation_crops": 1,
            "validation_size": 16,
        }
    )  # fmt: skip
    facts = finetune(config, tmp_path / "out")
    assert facts["data"] == "a fresh render of 2 sources every step"
    assert "a fresh render of 2 sources" in (tmp_path / "out" / "mine.md").read_text(encoding="utf-8")


def test_each_render_has_a_display_of_its_own_within_tolerance(stills: Path, tmp_path: Path, monkeypatch) -> None:
    np.save(tmp_path / "psf.npy", np.eye(9) + np.eye(9)[::-1])
    asked: list[dict[str, float]] = []
    of = MeasuredVariation.psf
    monkeypatch.setattr(
        MeasuredVariation, "psf",
        lambda self, values: asked.append({name: float(v) for name, v in values.items()}) or of(self, values),
    )  # fmt: skip
    off = {"psfs": [str(tmp_path / "psf.npy")], "tolerances": {"turn": 3, "defocus": 0.5}}
    batches = fresh(stills, **off)
    batch = batches[2]
    turns = [values["turn"] for values in asked]
    assert len(set(turns)) == len(turns) >= 4 and 1 < max(map(abs, turns)) <= 3
    assert max(abs(values["defocus"]) for values in asked) <= 0.5
    assert all(torch.equal(one, other) for one, other in zip(batch, fresh(stills, **off)[2], strict=True))


def test_the_recipe_optics_needs_tolerances_that_are_some(stills: Path, tmp_path: Path) -> None:
    values = {"name": "x", "parent": "x", "validation": "x", "recipe": "optics"}
    for train in ("x", {"sources": str(stills)}):
        with pytest.raises(UserError, match="recipe 'optics' needs `train: "):
            check_config({**values, "train": train}, FinetuneConfig, "test")
    np.save(tmp_path / "psf.npy", np.eye(9))
    for tolerances, message in (({"turn": 0}, "leaves nothing to vary"), ({"tun": 1}, "did you mean 'turn'")):
        with pytest.raises(UserError, match=message):
            fresh(stills, psfs=[str(tmp_path / "psf.npy")], tolerances=tolerances)
