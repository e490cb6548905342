"""Attacks made on other classifiers: the same grid, with scores instead of images."""

from __future__ import annotations

import pytest
import torch
from small_study import SOURCE, block, load, rows_of, run, trained
from torch import nn

from udc_robust.attacks import Linf, Sources, image_seed, objective, transfer
from udc_robust.classifiers.data import load_images
from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights


def _save(place, name: str, state: dict[str, torch.Tensor]) -> dict:
    network = nn.Module()
    network.state_dict = lambda: state  # type: ignore[method-assign,assignment]
    save_weights(place / f"{name}.safetensors", network, {})
    return block(place, name=name, weights=str(place / f"{name}.safetensors"))


@pytest.fixture
def other(place) -> dict:
    """Another training, as far as an attacker can tell."""
    generator = torch.Generator().manual_seed(2)
    state = {name: w + 0.1 * w.std() * torch.randn(w.shape, generator=generator) for name, w in trained().items()}
    return _save(place, "other", state)


def test_classifiers_are_attacked_from_others_and_by_queries_that_begin_there(place, other) -> None:
    attacks = [
        {"method": "pgd", "steps": 5, "access": "transfer", "sources": [other, "tiny"], "name": "both"},
        {"method": "square", "steps": 20, "sources": other},
        {"method": "prgf", "queries": 40, "samples": 5, "sources": other},
    ]
    out = run(place, "out", attacks=attacks, eps=["16/255"], defences=["none", {"kind": "blur", "sigma": 0.5}])
    rows = rows_of(out / "results.csv")
    assert {row["exactness"] for row in rows} == {"n/a", "of other alone"}
    images = load_images("digits:test").spread(12)
    x, labels = images.batch(range(12))
    goal, victim = objective("margin"), load(place)
    source = load_classifier(ClassifierSpec(**other))
    seeds = [image_seed(0, f"twelve/{key}", "both-linf-16_255") for key in images.keys]
    made = transfer(
        victim, x, goal, Linf(16 / 255), "pgd", Sources.of([source], goal, labels), target=labels, seeds=seeds, steps=5
    )
    found = {row["image"]: row for row in rows if (row["attack"], row["defence"]) == ("both", "none")}
    for key, value in zip(images.keys, made.adv_values.tolist(), strict=True):
        assert float(found[key]["margin"]) == pytest.approx(value, abs=1e-3)
    asked = [row for row in rows_of(out / "queries.csv") if row["method"] == "square"]
    assert {row["queries"] for row in asked} == {"10", "20"} and {row["top1"] for row in asked} <= {"0", "1"}


def test_a_source_of_other_classes_is_refused(place, other) -> None:
    scope: dict = {"__name__": "tiny"}
    exec(SOURCE, scope)
    wide = {**_save(place, "wide", scope["Tiny"](12).state_dict()), "options": {"classes": 12}}
    attacks = [{"method": "pgd", "access": "transfer", "sources": wide}]
    with pytest.raises(UserError, match=r"source 'wide' answers with \(12,\) an image where the victims .* \(10,\)"):
        run(place, "out", attacks=attacks)
    softmax = {**other, "name": "soft", "network": other["network"].replace(":Tiny", ":Softmax")}
    with pytest.raises(UserError, match=r"classifier .soft. on twelve: .*take the softmax off"):
        run(place, "out", attacks=[{"method": "pgd", "access": "transfer", "sources": softmax}])
    assert not (place / "out").exists()
