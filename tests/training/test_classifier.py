"""Training a classifier: every mode learns, it resumes to the same weights, and mistakes are told."""

from __future__ import annotations

import copy

import pytest
import torch

from udc_robust.attacks import Linf, Streams, attack, objective, perturb
from udc_robust.classifiers.data import load_images
from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier
from udc_robust.config_file import check_config, load_config
from udc_robust.data.images import write_image
from udc_robust.defences.transforms import AdditiveNoise
from udc_robust.errors import UserError
from udc_robust.files import shipped
from udc_robust.networks.weights import read_weights
from udc_robust.training import classifier as training
from udc_robust.training import classifier_losses
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.classifier_losses import MODES, ClassifierSetup
from udc_robust.training.labelled import fixed_classifier
from udc_robust.training.labelled_batches import LabelledBatches

LOW = {"kind": "low_resolution", "factor": 2}
NOISE = {"kind": "noise", "sigma": 0.1}


def _config(**changes) -> ClassifierConfig:
    values = {
        "name": "tiny", "train": "digits:train", "validation": "digits:test", "validation_limit": 100, "patch_size": 8,
        "network": "resnet8", "options": {"width": 4}, "pad": 1, "flip": False, "batch_size": 32, "steps": 12,
        "warmup": 2, "lr": 0.01, "ema": 0.5, "validate_every": 12, "save_every": 5, "eps": "16/255", "inner_steps": 2,
    }  # fmt: skip
    return check_config({**values, **changes}, ClassifierConfig, "test")


OF_MODE = {
    "distilled": {"teacher": "digits_mini", "sigma": 0.05},
    "student": {"teacher": "digits_mini", "options": {"width": 8, "noise": 0.2}},
    "gccs": {"target": 4.0},
}


def test_it_learns_and_its_weights_serve(tmp_path) -> None:
    facts = training.train_classifier(_config(steps=60, transforms=[LOW], mode="hybrid"), tmp_path)
    figures = facts["validation"]["accuracy"]
    assert figures["original"]["top1"] > 0.4 and figures["low_resolution"]["top1"] > 0.3
    loaded = load_classifier(ClassifierSpec("tiny", weights=str(tmp_path / "tiny.safetensors")))
    assert loaded.classes == tuple(map(str, range(10)))
    test = load_images("digits:test", 8).spread(100)
    again = training.accuracies(loaded, test, {"original": None}, torch.device("cpu"))
    assert again["original"] == figures["original"]
    card = (tmp_path / "tiny.md").read_text()
    assert f"| low_resolution | {100 * figures['low_resolution']['top1']:.2f} % |" in card and "1438 images" in card


def test_accuracies_count_every_image_behind_a_draw_of_its_own() -> None:
    images, drawn = load_images("digits:test", 8).spread(23), []

    class Spied(AdditiveNoise):
        def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            drawn.append(noise)
            return super().forward(x, noise)

    classifier = training._classifier(_config(), images).eval()
    defences = {"original": None, "noise": Spied(0.3)}
    found = training.accuracies(classifier, images, defences, torch.device("cpu"), batch=5)
    assert [len(noise) for noise in drawn] == [5, 5, 5, 5, 3]
    assert torch.cat(drawn).flatten(1).unique(dim=0).shape[0] == 23
    x, labels = images.batch(range(23))
    with torch.no_grad():
        for name, inputs in (("original", x), ("noise", x + 0.3 * torch.cat(drawn))):
            places = (classifier(inputs).argsort(1, descending=True) == labels[:, None]).nonzero()[:, 1]
            for k in (1, 5):
                assert found[name][f"top{k}"] == pytest.approx(float((places < k).double().mean()))
            assert found[name]["top5"] > found[name]["top1"]
    drawn.clear()
    assert training.accuracies(classifier, images, defences, torch.device("cpu")) == found  # whatever the batch
    assert len(training.accuracies(classifier.train(), images, {"original": None}, torch.device("cpu"))) == 1
    assert classifier.training


@pytest.mark.parametrize(
    "mode, transforms, learnt",
    [("clean", [LOW], [None]), ("madry", [LOW], [None]), ("transformed", [LOW], ["LowResolution"]),
     ("hybrid", [LOW, NOISE], [None, "LowResolution", "AdditiveNoise"])],
)  # fmt: skip
def test_each_mode_learns_its_representations(mode, transforms, learnt, tmp_path, monkeypatch) -> None:
    seen = []

    def spy(lesson, network, x, labels, seeds):
        seen.append([None if each is None else type(each).__name__ for each in lesson.representations])
        return network(x).mean()

    monkeypatch.setitem(MODES, mode, spy)
    facts = training.train_classifier(_config(mode=mode, transforms=transforms, steps=1), tmp_path)
    assert seen == [learnt]
    assert list(facts["validation"]["accuracy"]) == ["original", *(block["kind"] for block in transforms)]


def test_a_budget_of_the_data_is_attacked_with_and_told(tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(training, "_hidden", lambda keep, images: keep / 100)
    monkeypatch.setitem(MODES, "madry", lambda setup, network, x, *_: seen.append(setup.eps) or network(x).mean())
    facts = training.train_classifier(_config(mode="madry", imperceptible=0.9, steps=1), tmp_path)
    assert [*seen, facts["eps"]] == pytest.approx([0.009] * 2)


def test_a_stopped_training_resumes_to_the_same_weights(tmp_path, monkeypatch) -> None:
    config = _config(mode="hybrid_adversarial", transforms=[NOISE])
    training.train_classifier(config, tmp_path / "whole")
    true_mode, calls = MODES["hybrid_adversarial"], []

    def stops(*arguments):
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return true_mode(*arguments)

    monkeypatch.setitem(MODES, "hybrid_adversarial", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train_classifier(config, tmp_path / "stopped")
    monkeypatch.setitem(MODES, "hybrid_adversarial", true_mode)
    training.train_classifier(config, tmp_path / "stopped")
    whole, resumed = (read_weights(tmp_path / name / "tiny.safetensors")[0] for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_lowers_its_own_loss_on_one_batch(mode) -> None:
    config = _config(mode=mode, transforms=[LOW], **OF_MODE.get(mode, {}))
    images = load_images("digits:train", 8)
    teacher = fixed_classifier("teacher", config.teacher, images) if config.teacher else None
    classifier = training._classifier(config, images)
    network = training.MaskedClassifier(classifier) if mode in ("xat", "xvat") else classifier
    network.train()
    low = training.build_defence("low_resolution", {"factor": 2})
    learnt = {"transformed": [low], "on_manifold": [low]}.get(mode, [None, low] if "hybrid" in mode else [None])
    setup = ClassifierSetup(config, classifier, learnt, teacher=teacher)
    x, labels, seeds = LabelledBatches(images, pad=1, flip=False, batch=32, steps=1, seed=0)[0]
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        value = MODES[mode](setup, network, x, labels, seeds.tolist())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.8 * losses[0], losses
    assert classifier.training and all(p.requires_grad for p in classifier.parameters())


def test_rows_are_dealt_to_the_representations() -> None:
    noise, low = (
        training.build_defence(block["kind"], {k: v for k, v in block.items() if k != "kind"}) for block in (NOISE, LOW)
    )
    setup = ClassifierSetup(_config(), torch.nn.Identity(), [None, noise, low])
    x = torch.rand(7, 3, 8, 8)
    y = setup.represent(x, range(7))
    assert torch.equal(y[::3], x[::3])
    assert torch.equal(y[2::3], low(x[2::3], low.draw(x[2::3], None)))
    assert not torch.equal(y[1::3], x[1::3]) and torch.equal(setup.represent(x, range(7)), y)
    alone = ClassifierSetup(_config(), torch.nn.Identity(), [noise]).represent(x[4:5], [4])
    assert torch.allclose(alone, y[4:5])  # an image's noise is its own


@pytest.mark.parametrize("mode, goal", [("madry", "cross_entropy"), ("trades", "divergence"), ("sat", "cross_entropy")])
def test_inner_attacks_are_those_of_the_core(mode, goal, monkeypatch) -> None:
    """The last iterate of `attack`'s PGD, made in evaluation mode; the classifier is left as it was."""
    made = []

    def watched(victim, x, objective, *args, **options):
        x_adv = perturb(victim, x, objective, *args, **options)
        made.append((objective.name, victim.training, x_adv))
        return x_adv

    monkeypatch.setattr(classifier_losses, "perturb", watched)
    config = _config(inner_steps=3, eps="0.2/255")
    classifier = training._classifier(config, load_images("digits:train", 8)).train()
    x, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    untouched = copy.deepcopy(classifier)  # a training's forward moves the statistics of the batch normalisation
    MODES[mode](ClassifierSetup(config, classifier, [None]), classifier, x, labels, [1, 2, 3, 4])
    ((name, training_mode, x_adv),) = made
    assert name == goal and not training_mode and classifier.training
    target, options = None if mode == "trades" else labels, {"steps": 3, "round_8_bit": False}
    best = attack(untouched, x, objective(goal), Linf(config.eps), "pgd", target=target, seeds=[1, 2, 3, 4], **options)
    assert torch.equal(best.x_adv, x_adv)  # here its last iterate is also the most damaging one


def test_batches_hold_every_image_once_an_epoch() -> None:
    images = load_images("digits:test", 8).spread(40)

    def make(**changes) -> LabelledBatches:
        return LabelledBatches(images, **{"pad": 1, "flip": True, "batch": 8, "steps": 10, "seed": 1, **changes})

    still = make(pad=0, flip=False)
    epochs = [torch.cat([still[step][0] for step in range(5 * e, 5 * e + 5)]) for e in (0, 1)]
    everything = images.batch(range(40))[0]
    for epoch in epochs:
        assert torch.equal(epoch.flatten(1).sort(0).values, everything.flatten(1).sort(0).values)
    assert not torch.equal(epochs[0], epochs[1])
    whole = make()
    shares = [make(rank=rank, ranks=2)[3] for rank in (0, 1)]
    for part, left, right in zip(whole[3], *shares, strict=True):
        assert torch.equal(part[::2], left) and torch.equal(part[1::2], right)
    assert all(torch.equal(a, b) for a, b in zip(make()[7], whole[7], strict=True))
    assert not torch.equal(make(seed=2)[0][0], whole[0][0])


@pytest.mark.parametrize(
    "path", sorted((shipped("configs") / "train/classifier").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_configs_take_a_step(path) -> None:
    config = load_config(path, ClassifierConfig, ["weights=null", "inner_steps=1"])
    images = load_images("digits:train", config.patch_size)
    teacher = fixed_classifier("teacher", config.teacher, images) if config.teacher else None
    classifier = training._classifier(config, images, teacher).train()
    learnt = [training.build_defence(block.kind, block.options) for block in config.transforms]
    alone = config.mode in ("transformed", "on_manifold")
    setup = ClassifierSetup(config, classifier, learnt if alone else [None, *learnt], teacher=teacher)
    batch = 12 if config.mode == "gccs" else 4
    x, labels, seeds = LabelledBatches(images, pad=config.pad, flip=config.flip, batch=batch, steps=1, seed=0)[0]
    MODES[config.mode](setup, classifier, x, labels, seeds.tolist()).backward()
    gradients = [p.grad for p in classifier.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mode": "hybird"}, "mode"),
        ({"mode": "hybrid"}, "needs `transforms`"),
        ({"mode": "transformed", "transforms": [LOW, NOISE]}, "learns one of `transforms`"),
        ({"transforms": [{"kind": "halftoon"}]}, "did you mean 'halftone'"),
        ({"pad": 8}, "pad 8 must be below patch_size 8"),
        ({"eps": 8}, "less than or equal to 1"),
        ({"mode": "student"}, "mode 'student' needs a `teacher`"),
        ({"mode": "distilled"}, "mode 'distilled' needs a `teacher`"),
        ({"teacher": "digits_mini"}, "mode 'clean' takes no `teacher`"),
        ({"mode": "student", "teacher": "digits_mini"}, "options: {noise: 0.2}"),
        ({"mode": "gccs", "focal": 2}, "focal belongs to adversarial training"),
        ({"imperceptible": 0.9}, "imperceptible belongs to adversarial training"),
        ({"mode": "on_manifold"}, "needs `transforms`"),
        ({"mode": "hybrid", "transforms": [NOISE, {**NOISE, "sigma": 0.3}]}, "two transforms are called 'noise'"),
        ({"mode": "hybrid", "transforms": [{**LOW, "name": "original"}]}, "two transforms are called 'original'"),
        ({"label_smoothing": 0.1}, "label_smoothing is of attacked images, of which mode 'clean'"),
        ({"mode": "trades", "label_smoothing": 0.1}, "of which mode 'trades' learns no label"),
    ],
)
def test_bad_settings(changes, message) -> None:
    with pytest.raises(UserError, match=message):
        _config(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mode": "gccs", "batch_size": 39}, "several images a class in a batch: raise batch_size 39 to 40"),
        ({"mode": "distilled", "teacher": "nobody.safetensors"}, "nobody.safetensors"),
        ({"mode": "distilled", "teacher": "resnet8"}, "resnet8"),
        ({"mode": "student", "teacher": "resnet20_clean", "options": {"noise": 0.2}}, "resnet20_clean"),
        ({"mode": "madry", "imperceptible": 0.9}, "images of 11 px or more, not 8: give `eps`"),
    ],
)
def test_what_a_mode_misses_is_told_before_it_trains(changes, message, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        training.train_classifier(_config(**changes), tmp_path)
    assert not (tmp_path / "state.pt").exists()


def test_a_student_begins_as_its_teacher_and_answers_differently_each_time(tmp_path) -> None:
    config = _config(mode="student", **OF_MODE["student"])
    images = load_images("digits:test", 8)
    teacher = fixed_classifier("teacher", config.teacher, images)
    classifier = training._classifier(config, images, teacher).eval()
    x = images.batch(range(4))[0]
    assert torch.equal(classifier(x), teacher(x)) and classifier.random and not teacher.random
    noisy = [classifier(x, Streams([seed] * 4)) for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.allclose(noisy[0], noisy[2])
    training.train_classifier(config, tmp_path)
    loaded = load_classifier(ClassifierSpec("tiny", weights=str(tmp_path / "tiny.safetensors")))
    assert loaded.random and all(not torch.equal(n.deviation, torch.ones(1)) for n in loaded.network.noises)


def test_bad_data(tmp_path) -> None:
    with pytest.raises(UserError, match=r"batch_size 2000 is larger than the data \(1438 images\)"):
        training.train_classifier(_config(batch_size=2000), tmp_path / "a")
    for name in ("cat", "dog"):
        write_image(tmp_path / "set" / name / "0.png", torch.zeros(3, 8, 8))
    with pytest.raises(UserError, match="different classes: 0, 1, 2"):
        training.train_classifier(_config(validation=tmp_path / "set"), tmp_path / "b")
    with pytest.raises(UserError, match="unknown classifier 'resnet9'"):
        training.train_classifier(_config(network="resnet9"), tmp_path / "c")
