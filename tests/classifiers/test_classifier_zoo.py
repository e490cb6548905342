"""Classifiers by name, by dotted path and from files; what is refused and how."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from udc_robust.classifiers import zoo
from udc_robust.classifiers.resnet_cifar import ResNetCifar
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights


def test_our_own_file_tells_all_about_itself(tmp_path) -> None:
    network = ResNetCifar(8, num_classes=3, width=4).eval()
    facts = {
        "network": "resnet8", "options": {"num_classes": 3, "width": 4}, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3],
        "classes": ["a", "b", "c"],
    }  # fmt: skip
    save_weights(tmp_path / "net.safetensors", network, facts)
    loaded = load_classifier(ClassifierSpec("mine", weights=str(tmp_path / "net.safetensors")))
    assert loaded.classes == ("a", "b", "c") and loaded.trained and not loaded.training
    x = torch.rand(2, 3, 8, 8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([1.0, 2, 3]).view(3, 1, 1)
    assert torch.allclose(loaded(x), network((x - mean) / std), atol=1e-6)
    other = load_classifier(ClassifierSpec("mine", weights=str(tmp_path / "net.safetensors"), mean=[0, 0, 0]))
    assert not torch.equal(other(x), loaded(x))


def test_only_our_own_networks_are_laid_out_channels_last() -> None:
    ours, theirs = (zoo.build_classifier(name, {}) for name in ("resnet8", "squeezenet1_1"))
    first = next(ours.parameters())
    assert not first.is_contiguous() and first.is_contiguous(memory_format=torch.channels_last)
    assert all(parameter.is_contiguous() for parameter in theirs.parameters())


def test_torchvision_models_by_name_and_their_weights_if_they_are_here(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    bare = load_classifier(ClassifierSpec("squeezenet1_1"))
    assert not bare.trained and bare.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    (tmp_path / "checkpoints").mkdir()
    torch.save(bare.network.state_dict(), tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    cached = load_classifier(ClassifierSpec("squeezenet1_1"), seed=7)
    assert cached.trained and cached.classes is not None and len(cached.classes) == 1000
    assert torch.equal(cached.network.state_dict()["features.0.weight"], bare.network.features[0].weight)
    few = load_classifier(ClassifierSpec("squeezenet1_1", options={"num_classes": 4}))
    assert not few.trained and few(torch.rand(1, 3, 64, 64)).shape == (1, 4)


def test_a_users_class_by_dotted_path(tmp_path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Flat(nn.Sequential):\n"
        "    def __init__(self, classes): super().__init__(nn.Flatten(), nn.Linear(48, classes))\n"
    )
    spec = ClassifierSpec("mine", network=f"{tmp_path / 'nets.py'}:Flat", options={"classes": 6}, std=[0.5, 0.5, 0.5])
    loaded = load_classifier(spec, seed=3)
    assert loaded(torch.rand(2, 3, 4, 4)).shape == (2, 6) and not loaded.trained
    assert torch.equal(load_classifier(spec, seed=3).network[1].weight, loaded.network[1].weight)


def test_shipped_classifiers_load() -> None:
    for name, path in zoo.shipped_classifiers().items():
        loaded = load_classifier(ClassifierSpec(name))
        assert loaded.trained and loaded.classes is not None and path.with_suffix(".md").is_file()
        assert loaded(torch.rand(2, 3, 32, 32)).shape == (2, len(loaded.classes))
        assert path.stat().st_size < 2e6


def test_weights_may_be_a_shipped_checkpoint() -> None:
    named = load_classifier(ClassifierSpec("mine", "resnet20", {"num_classes": 10}, weights="resnet20_clean"))
    shipped, x = load_classifier(ClassifierSpec("resnet20_clean")), torch.rand(2, 3, 32, 32)
    assert torch.equal(named(x), shipped(x)) and named.name == "mine"


@pytest.mark.parametrize(
    "spec, message",
    [
        (ClassifierSpec("resnet_20"), "unknown classifier 'resnet_20': did you mean 'resnet20'"),
        (ClassifierSpec("resnet20", options={"classes": 3}), "does not take these options"),
        (ClassifierSpec("resnet20", weights="nowhere.pth"), "no weights at nowhere.pth"),
        (ClassifierSpec("x", network="no.such.module:Net"), "cannot import 'no.such.module'"),
        (ClassifierSpec("resnet8", std=[1, 0, 1]), "std positive"),
        (ClassifierSpec("resnet8", mean=[0.5]), "need three numbers"),
    ],
)
def test_mistakes(spec, message) -> None:
    with pytest.raises(UserError, match=message):
        load_classifier(spec)


def test_weights_that_do_not_fit(tmp_path) -> None:
    save_weights(tmp_path / "eight.safetensors", ResNetCifar(8, width=4), {})
    wider = ClassifierSpec("resnet8", options={"width": 8}, weights=str(tmp_path / "eight.safetensors"))
    with pytest.raises(UserError, match=r"of another shape \(bn1\.bias \(4,\) instead of \(8,\)"):
        load_classifier(wider)  # what the user says counts, not what the file tells of itself
    with pytest.raises(UserError, match="does not fit ResNetCifar"):
        load_classifier(ClassifierSpec("resnet20", network="resnet20", weights=str(tmp_path / "eight.safetensors")))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_classifier(ClassifierSpec("resnet20", weights=str(tmp_path / "bad.safetensors")))
    state = {name: tensor.clone() for name, tensor in ResNetCifar(8, width=4).state_dict().items()}
    from safetensors.torch import save_file

    save_file(state, tmp_path / "text.safetensors", metadata={"network": '"resnet8"', "options": "{half"})
    with pytest.raises(UserError, match="metadata 'options' is not JSON"):
        load_classifier(ClassifierSpec("mine", weights=str(tmp_path / "text.safetensors")))


def test_the_wrapper_keeps_its_statistics_out_of_the_weights() -> None:
    classifier = Classifier("mine", nn.Flatten())
    assert not classifier.state_dict() and json.dumps(classifier.mean.tolist())
