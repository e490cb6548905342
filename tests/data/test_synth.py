"""Synthetic sets: pairs, their repeatability, resuming and refusing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from udc_robust.config_file import check_config
from udc_robust.data import scenes, synth
from udc_robust.data.images import read_image, write_image
from udc_robust.data.samples import PairedFolders
from udc_robust.data.scene_sets import SceneSet
from udc_robust.data.synth import SynthSettings, synthesise
from udc_robust.errors import UserError


def night(seed: int, height: int, width: int) -> torch.Tensor:
    """A dim scene (3,H,W) with lamps of radiance 100."""
    noise = torch.Generator().manual_seed(seed)
    scene = torch.rand(3, height // 8, width // 8, generator=noise).repeat_interleave(8, 1).repeat_interleave(8, 2)
    lamps = torch.rand(height, width, generator=noise) > 0.9995
    return torch.where(lamps, torch.tensor(100.0), scene * 0.6)


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    for i in range(3):
        write_image(tmp_path / "stills" / f"still{i}.npy", night(i, 160, 200))
    return tmp_path / "stills"


SETTINGS = SynthSettings(kind="hdr", per_source=2, size=96, licence="CC0", difficulty=(10.0, 40.0))


def replace(settings: SynthSettings, **changes: object) -> SynthSettings:
    return check_config({**settings.model_dump(), **changes}, SynthSettings, "options")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_set_on_disk(stills: Path, tmp_path: Path) -> None:
    entries = synthesise(stills, tmp_path / "set", SETTINGS)
    assert [entry["name"] for entry in entries] == [f"still{i}_{j:03d}" for i in range(3) for j in range(2)]
    data = PairedFolders(tmp_path / "set" / "lq", tmp_path / "set" / "gt")
    assert data.sizes() == [(96, 96)] * 6
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["psf_sha256"]["phone"] and manifest["settings"]["seed"] == 0
    for sample, entry in zip(data, manifest["pairs"], strict=True):
        assert sample.domain == "tonemapped" and sample.gt is not None
        assert entry["licence"] == "CC0" and entry["psf"] == "phone" and entry["source"].startswith("still")
        mse = float(((sample.lq - sample.gt).double() ** 2).mean())
        assert entry["degraded_psnr"] == pytest.approx(-10 * np.log10(mse), abs=1e-2)
        assert mse > 1e-5
        truth = read_image(stills / entry["source"]).pixels
        crop = truth[:, entry["top"] : entry["top"] + 96, entry["left"] : entry["left"] + 96]
        torch.testing.assert_close(sample.gt, crop / (crop + 0.25), atol=0.51 / 255, rtol=0)


def test_pairs_do_not_depend_on_their_company(stills: Path, tmp_path: Path) -> None:
    synthesise(stills, tmp_path / "all", SETTINGS)
    synthesise(stills, tmp_path / "one", SETTINGS, only=["still1"])
    every, one = contents(tmp_path / "all"), contents(tmp_path / "one")
    assert len(every) == 12 and len(one) == 4
    assert one.items() <= every.items()
    elsewhere = ["market_square"]  # a list of test scenes may name what this collection lacks
    chosen = synthesise(stills, tmp_path / "two", SETTINGS, exclude=["still1", *elsewhere])
    assert {entry["source"] for entry in chosen} == {"still0.npy", "still2.npy"}
    assert contents(tmp_path / "two") == {name: data for name, data in every.items() if "still1" not in name}
    first, second = (one[f"lq/still1_{number}.png"] for number in ("000", "001"))
    assert first != second  # every pair of a source is another view
    synthesise(stills, tmp_path / "other", replace(SETTINGS, seed=1))
    assert contents(tmp_path / "other") != every


def test_only_what_is_missing_is_made_again(stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set"
    synthesise(stills, out, SETTINGS)
    whole, manifest = contents(out), (out / "manifest.json").read_bytes()
    (out / "gt" / "still1_001.png").unlink()
    written: list[str] = []
    monkeypatch.setattr(synth, "write_image", lambda path, image: written.append(path.name) or write_image(path, image))
    synthesise(stills, out, SETTINGS)
    assert written == ["still1_001.png"] * 2
    assert contents(out) == whole and (out / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("change", "choice"),
    [({"seed": 3}, {}), ({"size": 64}, {}), ({"psfs": ("poled",)}, {}), ({}, {"only": ["still0"]})],
)
def test_a_set_of_other_settings_is_kept(
    stills: Path, tmp_path: Path, change: dict[str, object], choice: dict[str, list[str]]
) -> None:
    synthesise(stills, tmp_path / "set", SETTINGS)
    before = contents(tmp_path / "set")
    with pytest.raises(UserError, match="other settings"):
        synthesise(stills, tmp_path / "set", replace(SETTINGS, **change), **choice)
    assert contents(tmp_path / "set") == before


def test_every_pair_draws_one_of_the_displays(stills: Path, tmp_path: Path) -> None:
    entries = synthesise(stills, tmp_path / "set", replace(SETTINGS, psfs=("phone", "poled", "toled"), per_source=4))
    assert {entry["psf"] for entry in entries} == {"phone", "poled", "toled"}


def test_difficulty_includes_its_ends(stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for degraded, count in ((20.0, 6), (25.0, 6), (19.999, 0), (25.001, 0)):
        monkeypatch.setattr(scenes, "psnr", lambda lq, gt, degraded=degraded: torch.tensor([degraded]))
        settings, out = replace(SETTINGS, difficulty=(20.0, 25.0)), tmp_path / str(degraded)
        if count:
            assert len(synthesise(stills, out, settings)) == count
        else:
            with pytest.raises(UserError, match="widen --difficulty"):
                synthesise(stills, out, settings)


def test_difficulty_is_kept(stills: Path, tmp_path: Path) -> None:
    everything = synthesise(stills, tmp_path / "a", replace(SETTINGS, difficulty=(0.0, 99.0), tries=1))
    middle = sorted(entry["degraded_psnr"] for entry in everything)[3]
    hard = synthesise(stills, tmp_path / "b", replace(SETTINGS, difficulty=(0.0, middle), tries=1))
    assert 0 < len(hard) < len(everything)
    assert all(entry["degraded_psnr"] <= middle for entry in hard)
    assert len(list((tmp_path / "b" / "lq").iterdir())) == len(hard)
    with pytest.raises(UserError, match="degraded PSNR"):
        synthesise(stills, tmp_path / "c", replace(SETTINGS, difficulty=(98.0, 99.0), tries=1))


def test_panoramas_are_viewed_in_the_geometry_of_the_psf(tmp_path: Path) -> None:
    write_image(tmp_path / "panos" / "a.npy", night(0, 512, 1024))
    settings = replace(SETTINGS, kind="panorama", per_source=1, difficulty=(0.0, 99.0))
    (view,) = synthesise(tmp_path / "panos", tmp_path / "whole", replace(settings, size=256))
    (part,) = synthesise(tmp_path / "panos", tmp_path / "part", settings)
    assert (view["yaw"], view["pitch"]) == (part["yaw"], part["pitch"])
    whole = read_image(tmp_path / "whole" / "gt" / "a_000.png").pixels
    cut = read_image(tmp_path / "part" / "gt" / "a_000.png").pixels
    assert torch.equal(cut, whole[:, part["top"] : part["top"] + 96, part["left"] : part["left"] + 96])


def test_a_view_of_another_angle_is_found_again_and_an_older_set_goes_on(tmp_path: Path) -> None:
    write_image(tmp_path / "panos" / "a.npy", night(0, 512, 1024))
    settings = replace(SETTINGS, kind="panorama", per_source=2, difficulty=(0.0, 99.0))
    for angles, out in (((50.0, 130.0), tmp_path / "angles"), ((90.0, 90.0), tmp_path / "native")):
        entries = synthesise(tmp_path / "panos", out, replace(settings, field_of_view=angles))
        assert [("field_of_view" in entry) for entry in entries] == [angles[0] < 90] * 2
        found = SceneSet(PairedFolders(out / "lq", out / "gt", "tonemapped"), tmp_path / "panos")
        assert [found.placed(index)[0].shape for index in range(2)] == [(3, 96, 96)] * 2  # refused where another view
    manifest = tmp_path / "native" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["settings"]["field_of_view"]
    manifest.write_text(json.dumps(content))
    assert synthesise(tmp_path / "panos", tmp_path / "native", settings) == entries


def test_a_larger_panorama_is_averaged_down(tmp_path: Path) -> None:
    small = night(0, 512, 1024)
    write_image(tmp_path / "small" / "a.npy", small)
    write_image(tmp_path / "large" / "a.npy", small.repeat_interleave(2, 1).repeat_interleave(2, 2))
    settings = replace(SETTINGS, kind="panorama", per_source=1, difficulty=(0.0, 99.0))
    for name in ("small", "large"):
        synthesise(tmp_path / name, tmp_path / f"{name}_set", settings)
    assert contents(tmp_path / "small_set") == contents(tmp_path / "large_set")


def test_photographs_become_pseudo_hdr(tmp_path: Path) -> None:
    photo = torch.full((3, 120, 120), 0.3)
    photo[:, 50:60, 50:60] = 1.0
    write_image(tmp_path / "photos" / "a.png", photo)
    settings = replace(SETTINGS, kind="photo", per_source=1, size=120, difficulty=(0.0, 99.0))
    synthesise(tmp_path / "photos", tmp_path / "set", settings)
    truth = read_image(tmp_path / "set" / "gt" / "a_000.png").pixels
    assert float(truth[0, 55, 55]) == pytest.approx(101 / 101.25, abs=1 / 255)
    light = ((76 / 255 + 0.055) / 1.055) ** 2.4  # sRGB, decoded
    assert float(truth[0, 5, 5]) == pytest.approx(light / (light + 0.25), abs=1 / 255)


def test_mistakes_are_named(stills: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(UserError, match="did you mean 'still1'"):
        synthesise(stills, out, SETTINGS, only=["stil1"])
    with pytest.raises(UserError, match="did you mean 'still1'"):
        synthesise(stills, out, SETTINGS, exclude=["stil1"])  # it would be trained on
    with pytest.raises(UserError, match="kind"):
        synthesise(stills, out, replace(SETTINGS, kind="film"))
    with pytest.raises(UserError, match="smaller than"):
        synthesise(stills, out, replace(SETTINGS, size=999))
    with pytest.raises(UserError, match="at most 256"):
        synthesise(stills, out, replace(SETTINGS, kind="panorama", size=512))
    with pytest.raises(UserError, match="twice as wide"):
        synthesise(stills, out, replace(SETTINGS, kind="panorama"))
    with pytest.raises(UserError, match="does not exist"):
        synthesise(stills, out, replace(SETTINGS, psfs=("gone.npy",)))
    write_image(stills / "still0.png", torch.rand(3, 120, 120))
    with pytest.raises(UserError, match="same name"):
        synthesise(stills, out, SETTINGS)
    (stills / "still0.npy").unlink()
    with pytest.raises(UserError, match="--kind photo"):
        synthesise(stills, out, SETTINGS)


def test_pairs_of_somebody_else_are_left_alone(stills: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "set" / "gt" / "mine.png", torch.rand(3, 8, 8))
    with pytest.raises(UserError, match=r"set holds gt/mine\.png and no manifest\.json"):
        synthesise(stills, tmp_path / "set", SynthSettings(kind="hdr", size=32))
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["gt"]


def test_a_set_that_was_refused_before_its_first_pair_takes_other_settings(stills: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="smaller than --size"):
        synthesise(stills, tmp_path / "set", SynthSettings(kind="hdr", size=4000))
    settings = SynthSettings(kind="hdr", size=32, difficulty=(0, 99))
    assert synthesise(stills, tmp_path / "set", settings)


def test_a_damaged_manifest_is_named(stills: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json"):
        synthesise(stills, tmp_path / "set", SETTINGS)


def test_a_pair_that_is_not_as_it_was_written_is_made_again(stills: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    synthesise(stills, out, SETTINGS)
    whole = contents(out)
    (out / "gt" / "still1_001.png").write_bytes(b"")
    write_image(out / "lq" / "still0_000.png", torch.zeros(3, 96, 96))
    synthesise(stills, out, SETTINGS)
    assert contents(out) == whole


def test_a_source_that_changed_is_named(stills: Path, tmp_path: Path) -> None:
    synthesise(stills, tmp_path / "set", SETTINGS)
    write_image(stills / "still1.npy", night(7, 160, 200))
    with pytest.raises(UserError, match=r"other settings or sources \(still1\.npy changed\)"):
        synthesise(stills, tmp_path / "set", SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": 20_000}, {"shot": -1.0}, {"read": float("nan")}, {"per_source": 0}, {"seed": -1},
        {"difficulty": (30.0, 20.0)}, {"difficulty": (0.0, float("inf"))}, {"psfs": ()}, {"kind": "film"},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        replace(SETTINGS, **change)


def test_no_source_left(stills: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave none of the 3 sources"):
        synthesise(stills, tmp_path / "set", SETTINGS, exclude=["still0", "still1", "still2"])


@pytest.mark.parametrize("content", [b"", b"[]", b"5", b"{}", b"\xff\xfe{", b"[" * 3000, b'{"pairs": 5}'])
def test_a_manifest_damaged_in_any_way_is_named(tmp_path, content) -> None:
    write_image(tmp_path / "photos" / "a.png", torch.rand(3, 40, 40))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest.json is damaged .*delete that folder"):
        synthesise(tmp_path / "photos", tmp_path / "set", SynthSettings(kind="photo", size=24))
