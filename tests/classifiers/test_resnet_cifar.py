"""CIFAR ResNets: the paper's shape, and the two public layouts of checkpoints."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from udc_robust.classifiers.data import read_archive
from udc_robust.classifiers.resnet_cifar import ResNetCifar, from_public
from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier
from udc_robust.errors import UserError
from udc_robust.metrics.accuracy_curve import top_k_correct


@pytest.mark.parametrize("depth, parameters", [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_sizes_are_those_of_the_paper(depth, parameters) -> None:
    """0.27, 0.46, 0.66 and 0.85 million in the paper's table 6; the weights alone, as option A has no parameters."""
    with torch.device("meta"):
        network = ResNetCifar(depth)
    assert sum(p.numel() for p in network.parameters()) == parameters
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == depth


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_batch_equals_singles_and_any_size_goes(shortcut) -> None:
    network = ResNetCifar(8, num_classes=7, width=4, shortcut=shortcut).eval()
    for size in (4, 8, 13, 32):
        x = torch.rand(3, 3, size, size)
        scores = network(x)
        assert scores.shape == (3, 7)
        assert torch.allclose(scores[1:2], network(x[1:2]), atol=1e-5)


def test_option_a_takes_every_other_pixel_and_pads_with_zeros() -> None:
    block = ResNetCifar(8, width=4).layer2[0]
    x = torch.rand(1, 4, 6, 6)
    shortcut = block._shortcut(x)
    assert shortcut.shape == (1, 8, 3, 3)
    assert torch.equal(shortcut[:, 2:6], x[:, :, ::2, ::2]) and (shortcut[:, [0, 1, 6, 7]] == 0).all()


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_forward_pass_is_that_of_the_paper(shortcut) -> None:
    """Written out: two convolutions a block, ReLU after the sum, half the size at each new stage, mean over pixels."""
    network = ResNetCifar(14, num_classes=5, width=4, shortcut=shortcut)
    network.train()(torch.rand(16, 3, 12, 12))  # statistics for the batch normalisation
    state, x = network.eval().state_dict(), torch.rand(2, 3, 12, 12)

    def normalised(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, scale, offset = (
            state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + offset

    y = normalised(F.conv2d(x, state["conv1.weight"], padding=1), "bn1").clamp_min(0)
    for stage in (1, 2, 3):
        for i in (0, 1):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            inner = normalised(F.conv2d(y, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1")
            inner = normalised(F.conv2d(inner.clamp_min(0), state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2 and shortcut == "A":
                half = torch.zeros_like(inner[:, : inner.shape[1] // 4])
                y = torch.cat([half, y[:, :, ::2, ::2], half], 1)
            elif stride == 2:
                y = normalised(F.conv2d(y, state[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            y = (y + inner).clamp_min(0)
    expected = y.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
    assert torch.allclose(network(x), expected, atol=1e-5) and expected.std() > 1e-3


@pytest.mark.parametrize(
    "shortcut, last, mean, std",
    [
        ("A", "linear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
        ("B", "fc", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # CIFAR-10's
    ],
)
def test_public_layouts_are_known(tmp_path, shortcut, last, mean, std) -> None:
    network = ResNetCifar(8, num_classes=5, width=4, shortcut=shortcut)
    state = {f"module.{name}".replace("linear", last): tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.5}, tmp_path / "net.th")
    loaded = load_classifier(ClassifierSpec("mine", weights=str(tmp_path / "net.th")))
    assert loaded.trained
    assert loaded.mean.flatten().tolist() == pytest.approx(mean) and loaded.std.flatten().tolist() == pytest.approx(std)
    x = torch.rand(2, 3, 8, 8)
    network.eval().to(memory_format=torch.channels_last)  # as it is loaded: processors may add up in another order
    assert torch.equal(loaded(x), network((x - loaded.mean) / loaded.std))


def test_an_imagenet_resnet_is_none_of_ours() -> None:
    import torchvision

    with torch.device("meta"):
        assert from_public(torchvision.models.resnet18(weights=None).state_dict()) is None


@pytest.mark.parametrize(("file", "depth"), [("resnet20-12fca82f.th", 20), ("resnet56-4bfd9763.th", 56)])
def test_the_public_checkpoints_classify_the_kit(shared, file, depth) -> None:
    """ResNet-20: 81.0 % on the whole set."""
    loaded = load_classifier(ClassifierSpec("public", weights=str(shared / "data/weights" / file)))
    assert sum(isinstance(module, torch.nn.Conv2d) for module in loaded.modules()) == depth - 1
    x, labels = read_archive(shared / "data/cls/cifar10_jpeg_test.npz").spread(300).batch(range(300))
    with torch.no_grad():
        share = top_k_correct(loaded(x), labels, 1).double().mean()
    assert 0.75 < share < 0.87


@pytest.mark.parametrize("options, message", [({"depth": 21}, "6 n"), ({"shortcut": "C"}, "A or B")])
def test_bad_options(options, message) -> None:
    with pytest.raises(UserError, match=message):
        ResNetCifar(**options)
