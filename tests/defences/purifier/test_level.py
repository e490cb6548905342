"""Choosing a noise level: the distance, the features, the rules, and the study that feeds them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from tiny_purifier import images, plan_of, purifier, tiny_unet
from torch import nn
from typer.testing import CliRunner

from udc_robust.attacks import Streams
from udc_robust.cli import app
from udc_robust.data.images import read_image, write_image
from udc_robust.defences.purifier.level import (
    LevelFigures,
    PooledFeatures,
    anls_level,
    coarsest_module,
    frechet_distance,
    purified_features,
    restoration_level,
)
from udc_robust.defences.purifier.pipeline import PurificationPipeline
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network
from udc_robust.tasks.level_study import parse_levels

# ---- the distance


def with_moments(mean: np.ndarray, root: np.ndarray, count: int, seed: int) -> torch.Tensor:
    """Rows whose sample mean is ``mean`` and whose sample covariance is ``root @ root.T``, exactly."""
    rows = np.random.default_rng(seed).normal(size=(count, len(mean)))
    orthonormal, _ = np.linalg.qr(rows - rows.mean(0))
    return torch.from_numpy(orthonormal * np.sqrt(count - 1) @ root.T + mean)


def test_distance_of_known_gaussians() -> None:
    deviations = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.0])
    a = with_moments(np.zeros(3), np.diag(deviations[0]), 20, 0)
    b = with_moments(np.array([1.0, -2.0, 0.0]), np.diag(deviations[1]), 30, 1)
    # Of covariances that commute: the means apart, and the deviations apart.
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (1 - 3) ** 2 + 0 + 0.5**2, abs=1e-9)


def test_distance_agrees_with_the_matrix_square_root() -> None:
    generator = np.random.default_rng(2)
    roots = [generator.normal(size=(4, 4)) for _ in range(2)]
    means = [generator.normal(size=4) for _ in range(2)]
    sets = [with_moments(mean, root, 12, seed) for seed, (mean, root) in enumerate(zip(means, roots, strict=True))]
    first, second = (root @ root.T for root in roots)
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(0, 2**31), st.floats(-3, 3))
def test_fewer_images_than_features_are_no_trouble(count, width, seed, shift) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(count, width, generator=generator, dtype=torch.float64)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + shift) == pytest.approx(width * shift**2, abs=1e-8)
    b = torch.randn(count + 1, width, generator=generator, dtype=torch.float64)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)
    assert frechet_distance(a, b) >= float((a.mean(0) - b.mean(0)).square().sum()) - 1e-9


def test_distance_refuses_what_has_no_covariance() -> None:
    for a, b in ((torch.ones(1, 3), torch.ones(4, 3)), (torch.ones(4, 3), torch.ones(4, 2))):
        with pytest.raises(ValueError, match="2 or more"):
            frechet_distance(a, b)


# ---- the features


def tiny_nafnet() -> nn.Module:
    torch.manual_seed(1)
    network = build_network("NAFNet", {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return network


def test_the_deepest_part_is_found() -> None:
    network = tiny_nafnet().train()
    assert coarsest_module(network, network, images()) == "middle_blks"
    assert network.training and not network.middle_blks._forward_hooks
    stages = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 8, 3, stride=2), nn.AdaptiveAvgPool2d(1))
    assert coarsest_module(stages, stages, images()) == "1"  # pooled maps do not count
    with pytest.raises(UserError, match="name a module"):
        flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
        coarsest_module(flat, flat, images())


def test_features_are_pooled_maps_tokens_and_rows() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Identity(), nn.Linear(14 * 14, 5), nn.Flatten())
    x = images()
    assert torch.equal(PooledFeatures(network, "0")(x), network[0](x).mean((2, 3)))
    assert torch.equal(PooledFeatures(network, "3")(x), network[3](network[1](network[0](x))).mean(1))
    assert torch.equal(PooledFeatures(network, "4")(x), network(x))
    assert not network[0]._forward_hooks
    with pytest.raises(UserError, match="unknown module"):
        PooledFeatures(network, "middle")


def test_features_behind_a_purifier() -> None:
    network, x = tiny_nafnet().eval(), images()
    features = PooledFeatures(network, "middle_blks")
    made = purifier(plan_of(20))
    streams = Streams([3, 4])
    with torch.no_grad():
        expected = torch.cat([features(made(x, made.draw(x, streams))) for _ in range(2)])
    assert torch.equal(purified_features(features, made, x, [3, 4], draws=2), expected)
    # Without a purifier nothing is noised, whatever the number of draws.
    assert torch.equal(purified_features(features, None, x, [3, 4], draws=2), features(x).detach())


# ---- the rules


def entry(level: int, clean: float, attacked: float, frechet: float) -> LevelFigures:
    return LevelFigures(level, 0.0 if level == 0 else 0.01, clean, attacked, attacked, attacked, frechet)


ENTRIES = st.lists(
    st.tuples(st.integers(1, 150), *(st.sampled_from([20.0, 20.4, 21.0, 22.5, 23.0, 24.0]) for _ in range(3))),
    min_size=1, unique_by=lambda e: e[0],
)  # fmt: skip


@settings(deadline=None)
@given(ENTRIES, st.sampled_from([0.0, 0.5, 1.5]))
def test_the_rules_pick_as_stated(entries, max_cost) -> None:
    bare = entry(0, 23.0, 21.0, 21.0)
    purified = [entry(*e) for e in entries]
    by_level = {f.level: f for f in purified}
    chosen = restoration_level([bare, *purified], max_cost)
    picked = by_level[chosen.level]
    affordable = [f for f in purified if 23.0 - f.psnr_clean <= max_cost]
    if affordable:
        assert picked in affordable
        assert all((f.psnr_attacked, -f.level) <= (picked.psnr_attacked, -picked.level) for f in affordable)
    else:
        assert all((f.psnr_clean, -f.level) <= (picked.psnr_clean, -picked.level) for f in purified)
    assert ("every level costs more" in chosen.reason) == (not affordable)
    assert ("does not protect" in chosen.reason) == (picked.psnr_attacked <= 21.0)
    near = anls_level([*purified, bare])
    assert all((f.frechet, f.level) >= (by_level[near.level].frechet, near.level) for f in purified)
    highest = max(by_level) == near.level and len(by_level) > 1
    assert ("may lie above it" in near.reason) == highest
    assert ("no level comes nearer" in near.reason) == (by_level[near.level].frechet >= 21.0)


def test_rules_need_the_bare_network_and_a_level() -> None:
    for figures in ([entry(5, 20, 20, 1)], [entry(0, 20, 20, 1)], []):
        with pytest.raises(ValueError, match="without a purifier"):
            restoration_level(figures, 0.5)


def test_levels_are_read() -> None:
    assert parse_levels("20,5, 10,5,0") == [5, 10, 20]
    for text in ("", "5,x", "-1,5", "0", "2.5"):
        with pytest.raises(UserError, match="must be timesteps"):
            parse_levels(text)


# ---- the study


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Three pairs of two sizes, a restorer and a purifier, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for i, size in enumerate([(16, 24), (16, 24), (20, 16)]):
        gt = nn.functional.interpolate(torch.rand(1, 3, 4, 4), size, mode="bicubic")[0].clamp(0, 1)
        write_image(tmp_path / "gt" / f"{i}.png", gt)
        write_image(tmp_path / "lq" / f"{i}.png", (0.9 * gt + 0.02 * torch.rand_like(gt)).clamp(0, 1))
    network = tiny_nafnet()
    options = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
    save_weights(tmp_path / "tiny.safetensors", network, {"network": "NAFNet", "options": options, "domain": "srgb"})
    made = PurificationPipeline(tiny_unet(), DDPMScheduler(clip_sample=False), max_noise_level=60)
    made.save_pretrained(tmp_path / "model")
    return tmp_path


def call(*more: str, given=("--images", "lq", "--gt", "gt")):
    command = ["noise-level", "NAFNet", "model", "--weights", "tiny.safetensors", "--steps", "2", "--out", "out"]
    return CliRunner().invoke(app, [*command, *given, *more])


def test_the_command_measures_chooses_and_resumes(workplace) -> None:
    done = call("--levels", "20,5")
    assert done.exit_code == 0, done.exception
    assert "by restoration level" in done.stdout and "by features level" in done.stdout
    assert (workplace / "out" / "levels.png").stat().st_size > 10_000
    with open(workplace / "out" / "levels.csv", newline="") as handle:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(handle)]
    assert [row["level"] for row in rows] == [0, 5, 20]
    bare = rows[0]
    assert bare["sigma"] == 0 and bare["psnr_blind"] == bare["psnr_adaptive"] == bare["psnr_attacked"]
    assert bare["psnr_attacked"] < bare["psnr_clean"] and 0 < rows[1]["sigma"] < rows[2]["sigma"] < 0.05
    assert all(row["psnr_attacked"] <= min(row["psnr_blind"], row["psnr_adaptive"]) + 1e-6 for row in rows)

    # The bare distance once more, from the files: clean captures against the attacked ones, with nothing between.
    network = tiny_nafnet().eval()
    features = PooledFeatures(network, "middle_blks")
    attacked = sorted((workplace / "out" / "images").rglob("*.input.png"))
    attacked = [path for path in attacked if path.parent.name == "NAFNet"]
    assert len(attacked) == 3
    with torch.no_grad():
        sets = [
            torch.cat([features(read_image(path).pixels[None]) for path in paths])
            for paths in (sorted((workplace / "lq").iterdir()), attacked)
        ]
    assert bare["frechet"] == pytest.approx(frechet_distance(*sets), rel=1e-4)

    # A kill in the middle: the lines that are left are kept, the rest comes out the same.
    journals = [workplace / "out" / "journal.jsonl", workplace / "out" / "frechet" / "journal.jsonl"]
    before = [(workplace / "out" / "levels.csv").read_bytes(), *(path.read_bytes() for path in journals)]
    for path in journals:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(lines) // 2]) + b'{"unit": "le')
    (workplace / "out" / "levels.csv").unlink()
    again = call("--levels", "5,20", "--max-cost", "99")
    assert again.exit_code == 0, again.exception
    assert (workplace / "out" / "levels.csv").read_bytes() == before[0] and journals[1].read_bytes() == before[2]
    assert "at most 99" in again.stdout
    other = call("--levels", "5")
    assert isinstance(other.exception, UserError) and "another defences" in str(other.exception)


def test_mistakes(workplace) -> None:
    for more, message in (
        (["--levels", "5,61"], "above 60"),
        (["--levels", "five"], "must be timesteps"),
        (["--levels", "5", "--module", "midle_blks"], "did you mean 'middle_blks'"),
        (["--levels", "5", "--eps", "four"], "not a number"),
        (["--levels", "5", "--domain", "linear"], "linear light"),
        (["--levels", "5", "--crop", "64"], "smaller than crop 64"),
    ):
        failed = call(*more)
        assert isinstance(failed.exception, UserError) and message in str(failed.exception), failed.exception
        assert not (workplace / "out").exists()  # nothing is claimed for a run that cannot be
    failed = call(given=("--images", "lq"))
    assert isinstance(failed.exception, UserError) and "--gt" in str(failed.exception)
