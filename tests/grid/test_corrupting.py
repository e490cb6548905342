"""Corruptions in a run: rows of their own, no part in what is held, the same whatever the batch."""

from __future__ import annotations

import pytest
import torch
from small_run import rows_of, run, values

from udc_robust.config_file import check_config
from udc_robust.corruptions import chance, corrupted_capture
from udc_robust.data.images import read_image
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.report.comparison import comparisons
from udc_robust.report.run_folder import read_run
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks import TASKS, evaluate, write_report
from udc_robust.tasks.restoration_schema import RestorationConfig

PGD = [{"method": "pgd", "steps": 1, "eps": "2/255"}]
HARSH = ["gaussian_noise", {"kind": "underexposure", "severity": 5}]


def test_figures_can_be_computed_again(workplace) -> None:
    out = run(workplace, "out", attacks=PGD, corruptions=["jpeg", {"kind": "fog", "severity": [1, 5]}])
    rows = rows_of(out / "corruptions.csv")
    assert len(rows) == 5 * (5 + 2) and {row["place"] for row in rows} == {"after"}
    assert {row["family"] for row in rows} == {"file", "weather"}
    assert not [name for name in rows[0] if name.endswith("_clean") or name in ("eps", "linf", "broken")]
    restorer = load_restorer(RestorerSpec("tiny", weights=str(workplace / "tiny.safetensors")), "srgb")
    for row in rows[::6]:
        x, gt = (read_image(workplace / part / f"{row['image']}.png").pixels for part in ("lq", "gt"))
        stream = chance(0, f"five/{row['image']}", row["corruption"])
        changed = corrupted_capture(x, row["corruption"], int(row["severity"]), "srgb", stream)[None]
        changed = (changed * 255).round() / 255
        with torch.no_grad():
            found = psnr(restorer(changed).double(), gt[None].double()).item()
        assert float(row["psnr"]) == pytest.approx(found, abs=1e-3)
        assert float(row["psnr_input"]) == pytest.approx(psnr(changed.double(), gt[None].double()).item(), abs=1e-3)


def test_they_are_no_attacks_and_change_nothing_that_is_held(workplace) -> None:
    plain = run(workplace, "plain", attacks=PGD)
    both = run(workplace, "both", attacks=PGD, corruptions=HARSH)
    assert (plain / "results.csv").read_bytes() == (both / "results.csv").read_bytes()
    assert not (plain / "corruptions.csv").exists()
    held = [comparisons(list(read_run(path, TASKS).panels()))[0].standings[0].held for path in (plain, both)]
    assert held[0] == held[1]
    # though they do more than the attack
    assert min(float(row["psnr"]) for row in rows_of(both / "corruptions.csv")) < held[0][0].quality - 3


def test_neither_batches_nor_a_second_start_change_a_row(workplace) -> None:
    tables = []
    for name, size in (("one", 1), ("three", 3)):
        out = run(workplace, name, attacks=[], corruptions=HARSH, batch_size=size)
        tables.append(rows_of(out / "corruptions.csv"))
    for one, three in zip(*tables, strict=True):
        assert float(one.pop("psnr")) == pytest.approx(float(three.pop("psnr")), abs=1e-3)
        assert {k: v for k, v in one.items() if "." not in v} == {k: v for k, v in three.items() if "." not in v}
    before = (workplace / "one" / "corruptions.csv").read_bytes()
    lines = (workplace / "one" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (workplace / "one" / "journal.jsonl").write_bytes(b"".join(lines[:-7]) + lines[-7][:20])  # killed
    run(workplace, "one", attacks=[], corruptions=HARSH, batch_size=1)
    assert (workplace / "one" / "corruptions.csv").read_bytes() == before


def test_before_the_optics_only_where_the_scenes_are_known(workplace, capsys) -> None:
    block = {"kind": "underexposure", "severity": 3, "place": ["before", "after"]}
    data = [*values(workplace)["data"], {"kind": "embedded", "limit": 1, "size": 32}]
    settings = values(workplace, attacks=[], corruptions=[block], data=data)
    settings["restorers"][0]["domain"] = "srgb"
    evaluate(check_config(settings, RestorationConfig, "test"), workplace / "out")
    found = {(row["data"], row["place"]) for row in rows_of(workplace / "out" / "corruptions.csv")}
    assert found == {("five", "after"), ("embedded", "after"), ("embedded", "before")}
    assert "data five: its scenes and optics are not known" in capsys.readouterr().err
    before, after = (
        next(
            r for r in rows_of(workplace / "out" / "corruptions.csv") if (r["data"], r["place"]) == ("embedded", place)
        )
        for place in ("before", "after")
    )
    # A dim scene is itself the truth; a capture that is too dark is not.
    assert float(before["psnr_input"]) > float(after["psnr_input"]) + 5


def test_corruptions_alone_bring_no_preset(workplace) -> None:
    settings = {key: value for key, value in values(workplace, corruptions="fog").items() if key != "attacks"}
    alone, asked = (check_config({**settings, **more}, RestorationConfig, "test") for more in ({}, {"preset": "quick"}))
    assert (alone.attacks, alone.preset) == ([], None) and asked.attacks and asked.corruptions


def test_a_run_without_an_attack_has_a_report(workplace) -> None:
    out = run(workplace, "out", attacks=[], corruptions="snow")
    page = write_report([out]).read_text()
    assert "Threats that nobody aims" in page and 'href="corruptions.csv"' in page
    assert len(rows_of(out / "report.corruptions.csv")) == 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"corruptions": "fogg"}, "did you mean 'fog'"),
        ({"corruptions": [{"kind": "fog", "severity": 6}]}, "corruptions.0.severity: must be of 1 to 5, not 6"),
        ({"corruptions": [{"kind": "fog", "severity": [0, 1]}]}, "corruptions.0.severity: must be of 1 to 5, not 0"),
        (
            {"corruptions": [{"kind": "jpeg", "place": "before"}]},
            "jpeg does not happen before the optics; these",
        ),
        ({"corruptions": ["all", "fog"]}, "two corruption blocks are called 'fog 1 after the optics'"),
        ({"corruptions": [{"kind": "fog", "eps": 1}]}, "eps"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, changes, message) -> None:
    with pytest.raises(UserError) as caught:
        check_config(values(tmp_path, **changes), RestorationConfig, "mine.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)
