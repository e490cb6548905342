"""The certificates of a classifier and of a restorer, end to end on tiny ones; resuming, and what is refused."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch

from udc_robust.attacks import L2, attack, objective
from udc_robust.classifiers.data import load_images
from udc_robust.errors import UserError
from udc_robust.metrics.certificates import median_ranks
from udc_robust.tasks import certificate_study, median_study
from udc_robust.tasks.certificate_study import Certified, Smoothing, certificate, parse_smoothings, study


def _rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_noise_is_chosen_on_other_images_than_are_reported(tmp_path) -> None:
    smoothings = parse_smoothings("gaussian", [0.02, 0.2], norm="l2", guesses=20, count=60)
    best, rows = study("digits_mini", "digits:test", smoothings, tmp_path, limit=8)
    assert best.sigma == 0.2  # the larger noise certifies more of such easy images
    assert len(rows) == 9 and {row["part"] for row in rows} == {"reported"} and rows[0]["images"] == 4
    certified = [row["certified"] for row in rows]
    assert certified == sorted(certified, reverse=True) and certified[0] > certified[-1]
    single = _rows(tmp_path / "certificates.csv")
    assert [row["part"] for row in single[:3]] == ["chosen on", "reported", "chosen on"] and len(single) == 16
    mine = [row for row in single if row["part"] == "reported" and float(row["sigma"]) == 0.2]
    mean = sum(float(row["radius"]) for row in mine if row["label"] == row["answer"]) / 4
    assert rows[0]["mean_radius"] == pytest.approx(mean)


def test_it_resumes_and_asks_nothing_twice(tmp_path, monkeypatch) -> None:
    smoothings = [Smoothing("gaussian", 0.1, guesses=10, count=20)]
    first = study("digits_mini", "digits:test", smoothings, tmp_path, limit=3)
    monkeypatch.setattr(certificate_study, "_votes", lambda *_: pytest.fail("it asked again"))
    assert study("digits_mini", "digits:test", smoothings, tmp_path, limit=3) == first
    with pytest.raises(pytest.fail.Exception):
        study("digits_mini", "digits:test", [Smoothing("gaussian", 0.1, guesses=10, count=21)], tmp_path, limit=3)


def test_votes_are_those_of_noisy_copies(tmp_path) -> None:
    """Of a step on the first value, the share of votes is the noise's probability to stay below it."""

    class Step(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([0.6 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.6], 1)

    x, smoothing = torch.full((3, 4, 4), 0.4), Smoothing("gaussian", 0.2)
    votes = certificate_study._votes(Step(), x, smoothing, 20_000, torch.Generator().manual_seed(0))
    assert votes.sum() == 20_000 and float(votes[0]) / 20_000 == pytest.approx(0.8413, abs=0.01)
    found = certificate(Smoothing("gaussian", 0.2, count=20_000), "a", 0, 0, int(votes[0]), x.numel())
    assert found.right and 0.18 < found.radius < 0.2  # the step is 0.2 away
    lost = certificate(Smoothing("gaussian", 0.2, count=100), "a", 0, 0, 55, x.numel())
    assert lost.answer == -1 and not lost.right and lost.radius == 0


@pytest.mark.parametrize(
    "noises, sigmas, rest, message",
    [
        ("laplace", [0.1], {"norm": "l2"}, "--norm l2: laplace noise certifies l1; take --noise gaussian"),
        ("gaussian", [0.1], {"norm": "lpips"}, "--norm lpips: gaussian noise certifies l2, l1, linf"),
        ("gausian", [0.1], {}, "did you mean 'gaussian'"),
        ("gaussian", [0.0], {}, "--sigma 0 must be above 0"),
        ("gaussian", [0.1], {"alpha": 0.7}, "--alpha 0.7 must be a chance"),
    ],
)
def test_what_has_no_certificate_is_refused(noises, sigmas, rest, message) -> None:
    with pytest.raises(UserError, match=message):
        parse_smoothings(noises, sigmas, **rest)


def test_a_choice_needs_images_to_choose_on(tmp_path) -> None:
    with pytest.raises(UserError, match="a choice between noises needs two images or more"):
        study("digits_mini", "digits:test", parse_smoothings("gaussian", [0.1, 0.2]), tmp_path, limit=1)
    with pytest.raises(UserError, match="answers 10 classes"):
        certificate_study._load("digits_mini", replace(load_images("digits:test", 8), classes=("a", "b")), "cpu")


def test_no_attack_within_the_radius_undoes_a_median(tmp_path) -> None:
    """A blur's median is bounded: its attacked error, measured, stays above the certified PSNR's."""

    class Blur(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(x, 3, 1, 1)

    x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    truth, blur = Blur()(x[None])[0], Blur()
    noisy = median_study.noisy_answers(blur, x, 0.1, 1500, torch.Generator().manual_seed(1)).sort(0).values
    found = {shift: median_study.bounded(noisy, truth, shift, 0.001) for shift in (0.0, 0.5, 1.0)}
    certified = [one["psnr_certified"] for one in found.values()]
    assert certified == sorted(certified, reverse=True) and found[0.0]["psnr_median"] > certified[0]
    # Its median under noise is (nearly) itself, so an attack on it within the radius must stay in the bounds.
    worst = attack(blur, x[None], objective("mse"), L2(0.05), "pgd", target=truth[None], seeds=[1], steps=20).x_adv
    error = float((blur(worst)[0] - truth).square().mean())
    assert -10 * torch.log10(torch.tensor(error)) > found[0.5]["psnr_certified"]
    assert median_study.bounded(noisy[:50], truth, 3.0, 0.001)["width"] == 1  # so few say nothing at all


def test_a_restorer_is_certified_or_the_word_is_vacuous(tmp_path) -> None:
    data = {"kind": "embedded", "size": 32, "limit": 1}
    rows = median_study.study({"name": "nafnet_mini"}, data, 0.05, tmp_path, count=100)
    assert [row["radii_of_sigma"] for row in rows] == list(median_study.SHIFTS)
    assert rows[-1]["vacuous"] and "vacuous" in median_study.sentence(rows, rows[0]["values"])
    assert "26 deviations" in median_study.sentence([{**rows[0], "sigma": 0.05}], 3 * 48 * 48)
    assert len(_rows(tmp_path / "certified.csv")) == len(rows)


def test_images_that_choose_a_noise_report_nothing_of_it(tmp_path, monkeypatch) -> None:
    small, large = parse_smoothings("gaussian", [0.1, 0.2])
    radii = {small: (1.0, 0.0, 1.0, 0.0), large: (0.5, 2.0, 0.5, 2.0)}
    found = {s: [Certified(f"{i}", 0, 0, 0.9, r) for i, r in enumerate(radii[s])] for s in radii}
    images = [(torch.zeros(3, 8, 8), 0)] * 4
    for name, stub in (("load_images", images), ("_certified", found), ("_load", None), ("_plot", None)):
        monkeypatch.setattr(certificate_study, name, lambda *_, stub=stub: stub)
    best, rows = study("digits_mini", "digits:test", [small, large], tmp_path)
    assert best == small and rows[0]["mean_radius"] == 0


def test_the_bounds_of_all_values_hold_together() -> None:
    answers, truth = torch.linspace(0, 1, 1001).view(-1, 1, 1, 1).expand(-1, 3, 4, 4), torch.full((3, 4, 4), 0.5)
    low, high = median_ranks(1001, 0.001 / (2 * 48), 0.5)
    assert median_study.bounded(answers, truth, 0.5, 0.001)["width"] == pytest.approx((high - low) / 1000, abs=1e-5)
