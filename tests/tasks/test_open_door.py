"""Attacks, defences, objectives and metrics of the user, by `file.py:name` in a config."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, evaluate, write_report
from udc_robust.tasks.restoration_schema import RestorationConfig

MINE = '''
import torch
from udc_robust import Metric, method


def brighter(oracle, x, threat, *, share: float = 1.0):
    """A constant shift: no gradient needed."""
    return _asked(oracle, x + share * threat.eps)


def _asked(oracle, x):
    oracle.values(x)
    return x


@method("query", norms=("linf",))
def darker(oracle, x, threat):
    return _asked(oracle, x - threat.eps)


def smooth(x, *, size: int = 3):
    return torch.nn.functional.avg_pool2d(x, size, 1, size // 2)


def rounded(x):
    return torch.from_numpy((x.detach().numpy() * 15).round() / 15)


def shape_changer(x):
    return x[..., 1:]


def blind_spot(output, target):
    """Damage of the first channel alone."""
    return (output - target)[:, :1].square().flatten(1).mean(1)


def red_error(output, target):
    """Mean error of red, in levels."""
    return 255 * (output - target)[:, 0].abs().flatten(1).mean(1)


blues = Metric("blues", lambda output, target: (output - target)[:, 2].flatten(1).mean(1), digits=4)
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:"


def values(mine, **changes):
    return {
        "data": {"kind": "embedded", "limit": 2, "size": 32}, "restorers": ["nafnet_mini"], "lpips": None,
        "eps": ["4/255"], "gallery": 1, "save_images": False,
        "defences": ["none", {"kind": f"{mine}smooth", "size": 5}, {"kind": f"{mine}rounded", "role": "control"}],
        "attacks": [
            {"method": f"{mine}brighter", "share": "1/2"}, f"{mine}darker",
            {"method": "pgd", "steps": 2, "objective": f"{mine}blind_spot"},
        ],
        "metrics": [{"metric": f"{mine}red_error", "higher_is_better": False}, f"{mine}blues"],
        **changes,
    }  # fmt: skip


def test_they_run_and_stand_in_every_table(mine, tmp_path) -> None:
    out = tmp_path / "run"
    evaluate(check_config(values(mine), RestorationConfig, "test"), out)
    with open(out / "summary.csv", newline="") as handle:
        rows = {(row["defence"], row["attack"]): row for row in csv.DictReader(handle)}
    assert float(rows["none", "brighter"]["linf"]) == pytest.approx(2 / 255, abs=1e-4)
    assert rows["none", "darker"]["access"] == "query" and ("smooth", "pgd-blind_spot adaptive") in rows
    assert rows["smooth", "pgd-blind_spot adaptive"]["exactness"] == "exact"
    assert rows["rounded", "pgd-blind_spot adaptive"]["exactness"].startswith("approximate: gradient of the identity")
    for row in rows.values():
        assert float(row["red_error"]) > 0 and float(row["blues"]) == float(row["blues"])
    page = write_report([out]).read_text(encoding="utf-8")
    assert (
        "red_error" in page and "rounded + nafnet_mini (control)" in page and "smooth + nafnet_mini seems" not in page
    )
    assert "smooth + nafnet_mini" in page[page.index('id="gallery"') :]


def test_a_report_runs_no_code_of_a_run_that_somebody_handed_over(mine, tmp_path) -> None:
    out = tmp_path / "run"
    evaluate(check_config(values(mine), RestorationConfig, "test"), out)
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    assert len(list(read_run(out, TASKS).panels())) == 3 and write_report([out]).is_file()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"attacks": [{"method": "MINE:brighter", "shares": 1}]}, "'shares': did you mean 'share'"),
        ({"attacks": [{"method": "MINE:brighter", "share": "many"}]}, "'many' is not a number"),
        ({"attacks": ["MINE:brigter"]}, "did you mean 'brighter'"),
        ({"attacks": [{"method": "MINE:darker", "norm": "l2"}]}, "is defined for norm linf, not l2"),
        ({"attacks": ["MINE:blind_spot"]}, "takes output, target: it must take oracle, x, threat"),
        ({"attacks": ["nowhere.py:f"]}, "no such file"),
        ({"attacks": [{"method": "pgd", "objective": "MINE:smooth"}]}, "objective .* takes x: it must take output"),
        ({"defences": [{"kind": "MINE:smooth", "sizes": 5}]}, "'sizes': did you mean 'size'"),
        ({"defences": [{"kind": "MINE:smooth", "size": "wide"}]}, "size"),
        ({"defences": ["MINE:blind_spot"]}, "must take the images alone"),
        ({"metrics": ["MINE:smooth"]}, "metric .* takes x: it must take output, target"),
        ({"metrics": ["psrn"]}, "must be package.module:name or file.py:name"),
    ],
)
def test_mistakes_are_told_with_the_key(mine, changes, message) -> None:
    def filled(value):
        if isinstance(value, str):
            return value.replace("MINE:", mine)
        if isinstance(value, dict):
            return {key: filled(part) for key, part in value.items()}
        return [filled(part) for part in value] if isinstance(value, list) else value

    with pytest.raises(UserError, match=message):
        check_config(values(mine, **filled(changes)), RestorationConfig, "test")


@pytest.mark.parametrize("name", ["psnr", "eps", "drop", "linf"])
def test_a_metric_does_not_take_the_place_of_a_column_of_ours(mine, tmp_path, name) -> None:
    taken = values(mine, attacks=["noise"], metrics=[{"metric": f"{mine}red_error", "name": name}])
    with pytest.raises(UserError, match=f"metric '{name}' is a column of ours"):
        evaluate(check_config(taken, RestorationConfig, "test"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_defence_that_changes_the_shape_is_told_before_any_work(mine, tmp_path) -> None:
    config = check_config(values(mine, defences=[f"{mine}shape_changer"]), RestorationConfig, "test")
    with pytest.raises(UserError, match=r"shape_changer' makes \(1, 3, 32, 31\) of images \(1, 3, 32, 32\)"):
        evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_source_file_is_another_run(mine, tmp_path) -> None:
    config = check_config(values(mine), RestorationConfig, "test")
    evaluate(config, tmp_path / "run")
    (tmp_path / "mine.py").write_text(MINE + "\n# changed\n")
    with pytest.raises(UserError, match=r"run of other inputs \(.*mine.py"):
        evaluate(config, tmp_path / "run")


def test_a_module_that_the_source_file_imports_is_watched_too(mine, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_helper.py").write_text("")
    (tmp_path / "mine.py").write_text(MINE + "\nimport a_helper\n")
    config = check_config(values(mine), RestorationConfig, "test")
    evaluate(config, tmp_path / "run")
    (tmp_path / "a_helper.py").write_text("# changed")
    with pytest.raises(UserError, match=r"run of other inputs \(a_helper.py changed"):
        evaluate(config, tmp_path / "run")


def test_a_picture_that_was_replaced_is_named(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / "lq").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (90, 80, 70)).save(tmp_path / "lq" / f"{name}.png")
    data = {"kind": "folder", "lq": str(tmp_path / "lq")}
    block = {"data": data, "restorers": ["nafnet_mini"], "attacks": ["noise"], "lpips": None, "eps": ["4/255"]}
    config = check_config(block, RestorationConfig, "test")
    evaluate(config, tmp_path / "run")
    Image.new("RGB", (32, 32), (91, 80, 70)).save(tmp_path / "lq" / "b.png")
    with pytest.raises(UserError, match=r"lq/b.png changed"):
        evaluate(config, tmp_path / "run")
