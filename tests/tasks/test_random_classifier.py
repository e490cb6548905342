"""A classifier that answers differently each time: judged over several draws, attacked over their average."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from udc_robust.attacks import Streams, answers
from udc_robust.classifiers.data import load_images
from udc_robust.classifiers.zoo import ClassifierSpec, build_classifier, load_classifier
from udc_robust.config_file import check_config
from udc_robust.defences.defence import Defended
from udc_robust.defences.registry import build_defence
from udc_robust.networks.weights import load_into, save_weights
from udc_robust.tasks import evaluate
from udc_robust.tasks.classification_schema import ClassificationConfig


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> str:
    """The shipped digits network with noise in its features."""
    file = tmp_path_factory.mktemp("student") / "student.safetensors"
    teacher, options = load_classifier(ClassifierSpec("digits_mini")), {"width": 8, "num_classes": 10, "noise": 0.6}
    network = build_classifier("resnet8", options)
    load_into(network, {**network.state_dict(), **teacher.network.state_dict()}, "digits_mini")
    told = {"mean": teacher.mean.flatten().tolist(), "std": teacher.std.flatten().tolist()}
    save_weights(file, network, {"network": "resnet8", "options": options, **told})
    return str(file)


def test_a_random_network_is_judged_over_draws_and_attacked_over_their_average(student, tmp_path) -> None:
    values = {
        "task": "classification", "data": {"source": "digits:test", "limit": 6}, "classifiers": [student],
        "defences": ["none", {"kind": "blur", "sigma": 0.3}], "draws": 3, "eps": "32/255", "gallery": 0,
        "attacks": [{"method": "pgd", "steps": 2, "eot": 4, "access": ["blind", "adaptive"]}], "save_images": False,
    }  # fmt: skip
    evaluate(check_config(values, ClassificationConfig, "test"), tmp_path / "run")
    with open(tmp_path / "run/results.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["draws"] for row in rows} == {"3"}
    eot = {(row["defence"], row["access"]): row["eot"] for row in rows if row["method"] == "pgd"}
    assert eot == {("none", "gradient"): "4", ("blur", "blind"): "4", ("blur", "adaptive"): "4"}
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert all(told["random"] for told in facts["defences"].values())
    assert all(0.1 <= float(row["confidence"]) <= 1 for row in rows)
    with open(tmp_path / "run/summary.csv", newline="") as handle:
        assert all(0 <= float(row["ece"]) <= 1 for row in csv.DictReader(handle))


def test_its_noise_comes_from_each_images_own_stream_also_behind_a_defence(student) -> None:
    network, x = (
        load_classifier(ClassifierSpec("student", weights=student)),
        load_images("digits:test").batch([0, 1])[0],
    )
    both = answers(network, x, [3, 4], 2)
    assert torch.allclose(both[:, 1:], answers(network, x[1:], [4], 2), atol=1e-5)
    assert not torch.allclose(both[0], both[1])
    behind = Defended(build_defence("none", {}), network)
    assert behind.random and torch.equal(behind(x, Streams([3, 4])), both[0])
    assert torch.equal(network(x), network(x))  # without streams there is no noise
