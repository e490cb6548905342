"""Attacks on a part, in a band and towards a picture, as a config asks for them, and what it may get wrong."""

from __future__ import annotations

import pytest
import torch
from small_run import rows_of, run

from udc_robust.config_file import check_config
from udc_robust.data.images import read_image, write_image
from udc_robust.errors import UserError
from udc_robust.tasks.restoration_schema import RestorationAttack, RestorationConfig
from udc_robust.tasks.restoration_targets import wanted


def _towards(target: str, **more) -> dict:
    return {"method": "pgd", "objective": "towards", "target": target, "steps": 4, "eps": "16/255", **more}


def test_a_run_draws_and_erases_a_detail(workplace) -> None:
    attacks = [
        _towards("line", detail=[4, 4, 10, 12], name="draw"),
        _towards("erase", detail=[4, 4, 10, 12], name="erase"),
        {"method": "region_pgd", "region": [0, 2, 6, 8], "steps": 2, "eps": "8/255"},
        {"method": "band_pgd", "low": 0, "high": 0.5, "steps": 2, "eps": "8/255"},
        {"method": "patch", "norm": "l2", "region": [0, 2, 6, 8], "steps": 2},
    ]
    rows = rows_of(run(workplace, "out", attacks=attacks) / "results.csv")
    for name in ("draw", "erase"):
        mine = [row for row in rows if row["attack"] == name]
        assert len(mine) == 5 and {row["against"] for row in mine} == {"target"}
        assert all(float(row["objective_attacked"]) > float(row["objective_clean"]) for row in mine)
    changed = read_image(next((workplace / "out").rglob("region_pgd-linf-8_255.input.png"))).pixels
    key = next((workplace / "out").rglob("region_pgd-linf-8_255.input.png")).parents[1].name
    x = read_image(workplace / "lq" / f"{key.removesuffix('.png')}.png").pixels
    assert not (changed - x)[:, 6:].any() and (changed - x)[:, :6, 2:10].any()


def _block(**values) -> RestorationAttack:
    config = {"restorers": ["r"], "attacks": [{"method": "pgd", "objective": "towards", **values}]}
    return check_config(config, RestorationConfig, "test").attacks[0]


def test_a_line_stands_out_and_an_erased_detail_does_not() -> None:
    bright = torch.full((1, 1, 3, 20, 20), 0.8)
    drawn = wanted(_block(target="line", detail=[5, 5, 8, 8]), bright)[0]
    assert (drawn[:, 5, 5] == 0).all() and (drawn[:, 12, 12] == 0).all() and (drawn != 0.8).any(0).sum() < 20
    assert wanted(_block(target="line", detail=[5, 5, 8, 8]), 0.1 * bright)[0].max() == 1
    spotted = bright.clone()
    spotted[..., 8:11, 8:11] = 0.1
    assert torch.allclose(wanted(_block(target="erase", detail=[6, 6, 7, 7]), spotted), bright[0], atol=1e-3)


def test_a_picture_is_read_from_its_file(tmp_path) -> None:
    picture = torch.randint(256, (3, 20, 20)) / 255
    write_image(tmp_path / "wanted.png", picture)
    found = wanted(_block(target=str(tmp_path / "wanted.png")), torch.zeros(2, 4, 3, 20, 20))
    assert found.shape == (4, 3, 20, 20) and torch.allclose(found, picture.expand_as(found))


@pytest.mark.parametrize(
    "attack, message",
    [
        ({"objective": "towards"}, "objective towards needs `target`"),
        ({"objective": "towards", "target": "line"}, "target line needs `detail`"),
        ({"objective": "towards", "target": "line", "detail": [0, 0, 2, 2], "against": "gt"}, "takes no `against`"),
        ({"target": "line"}, "belong to `objective: towards`"),
        ({"method": "region_pgd", "region": "all"}, "list of whole numbers"),
        ({"method": "region_pgd", "region": [0, -1, 2, 2]}, "list of whole numbers"),
    ],
)
def test_mistakes_in_a_config(attack, message) -> None:
    with pytest.raises(UserError, match=message):
        check_config({"restorers": ["r"], "attacks": [{"method": "pgd", **attack}]}, RestorationConfig, "test")


@pytest.mark.parametrize(
    "attack, message",
    [
        ({"method": "region_pgd"}, r"give `region: \[top, left, height, width\]` in px or `mask: FILE`"),
        ({"method": "region_pgd", "region": [0, 0, 0, 4]}, "is empty"),
        ({"method": "region_pgd", "region": [0, 0, 26, 4]}, "reaches out of images of 24x32 px"),
        ({"method": "band_pgd", "low": 0.5, "high": 0.5}, "rise from 0 to 1"),
        (_towards("erase", detail=[20, 0, 8, 8]), "reaches out of images of 24x32 px"),
        (_towards("{lq}/4.png"), "is of 36x28 and an image of 24x32"),
        (_towards("nowhere.png"), "nowhere.png"),
    ],
)
def test_what_does_not_fit_the_images_is_told_before_any_work(workplace, attack, message) -> None:
    if "target" in attack:
        attack = {**attack, "target": attack["target"].format(lq=workplace / "lq")}
    with pytest.raises(UserError, match=message):
        run(workplace, "out", attacks=[attack])
    assert not (workplace / "out").exists()
