"""Speed of PGD on a CIFAR ResNet-20, as ratios measured in one run.

Against the bare forward + input gradient, and against torchattacks, foolbox and ART where they are installed
(``pip install torchattacks foolbox adversarial-robustness-toolbox``; none is a dependency of ours). Two figures: one
step, fixed costs cancelled, and a whole attack of ten steps, in which ours also scores images before and after.

Example: python scripts/bench_classifiers.py --batch 128 --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from bench_attacks import seconds, step_times

from udc_robust.attacks import Linf, attack, objective
from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier

EPS, STEP = 8 / 255, 2 / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    victim = load_classifier(ClassifierSpec(options.network))
    x = torch.rand(options.batch, 3, 32, 32)
    with torch.no_grad():
        labels = victim(x).argmax(1)
    seeds, cross_entropy = list(range(options.batch)), objective("cross_entropy")

    def bare(steps: int) -> None:
        for _ in range(steps):
            image = x.clone().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(victim(image), labels), image)

    def ours(steps: int) -> None:
        threat = Linf(EPS)
        attack(victim, x, cross_entropy, threat, "ifgsm", target=labels, seeds=seeds, steps=steps, step_size=STEP)

    candidates: dict[str, Callable[[int], object]] = {"bare gradient": bare, "our PGD": ours}
    candidates |= rivals(victim, x, labels)
    times = step_times(candidates, options.steps, options.rounds)
    whole: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(options.rounds):
        for name, work in candidates.items():
            whole[name].append(seconds(lambda work=work: work(10)))  # type: ignore[misc]
    threads = torch.get_num_threads()
    print(f"{options.network}, batch {options.batch}, {threads} threads; medians of {options.rounds} rounds")
    for name in candidates:
        step, run = statistics.median(times[name]), statistics.median(whole[name])
        ratios = [ours_ / theirs for ours_, theirs in zip(times["our PGD"], times[name], strict=True)]
        print(
            f"  {name:16s} {1000 * step:7.0f} ms a step, ours / this {statistics.median(ratios):.3f}; "
            f"ten steps {run:6.2f} s, ours / this {statistics.median(whole['our PGD']) / run:.3f}"
        )


def rivals(victim: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> dict[str, Callable[[int], object]]:
    """The same attack by other libraries, as far as they are installed."""
    found: dict[str, Callable[[int], object]] = {}
    try:
        import torchattacks

        def torchattacks_pgd(steps: int) -> None:
            torchattacks.PGD(victim, eps=EPS, alpha=STEP, steps=steps, random_start=False)(x, labels)

        found["torchattacks"] = torchattacks_pgd
    except ImportError:
        print("torchattacks is not installed: that comparison is left out")
    try:
        import foolbox

        theirs = foolbox.PyTorchModel(victim, bounds=(0, 1))

        def foolbox_pgd(steps: int) -> None:
            foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=steps, random_start=False)(theirs, x, labels, epsilons=EPS)

        found["foolbox"] = foolbox_pgd
    except ImportError:
        print("foolbox is not installed: that comparison is left out")
    try:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(
            victim, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), len(victim(x[:1])[0]), clip_values=(0, 1),
            device_type="cpu",
        )  # fmt: skip
        images, targets = x.numpy(), labels.numpy()

        def art_pgd(steps: int) -> None:
            ProjectedGradientDescentPyTorch(
                wrapped, eps=EPS, eps_step=STEP, max_iter=steps, batch_size=len(images), verbose=False
            ).generate(images, targets)

        found["ART"] = art_pgd
    except ImportError:
        print("ART is not installed: that comparison is left out")
    return found


if __name__ == "__main__":
    main()
