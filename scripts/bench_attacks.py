"""Speed of attacks beside torchattacks, foolbox and ART (extra ``parity``), as ratios measured in one run.

PGD, APGD, C&W, Square and SimBA on a classifier and on a restorer, by each of them that has the attack and can be made
to run it. Whole calls are compared, in which ours also scores images before and after, and steps alone, the fixed costs
cancelled. ``bare`` is a loop of the network's own gradients, or of its answers for attacks that ask. How often the
network was asked about an image tells whether work was equal: a peer may stop early, or ask twice. Budgets of attacks
that ask are too small to break an image, for there peers stop. Networks are as a user loads them: whoever computes the
gradients of weights on the way pays for them, unless they are `--frozen`.

Example: python scripts/bench_attacks.py --threads 1 --rounds 5
         python scripts/bench_attacks.py --task restoration --methods PGD --size 128 --batch 4
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier
from udc_robust.restorers.zoo import RestorerSpec, load_restorer

Work = Callable[[int], object]
"""A whole call of so many steps."""

EPS, STEP, TINY = 8 / 255, 2 / 255, 1e-4
OURS: Mapping[str, tuple[str, Any, dict[str, Any]]] = {
    "PGD": ("ifgsm", Linf(EPS), {"step_size": STEP}),
    "APGD": ("apgd", Linf(EPS), {}),
    "C&W": ("cw", L2(float("inf")), {"search_steps": 1}),
    "Square": ("square", Linf(TINY), {"p_init": 0.3}),
    "SimBA": ("simba", Linf(TINY), {"step_size": TINY}),
}
"""Method, budget and options of ours; the steps are the caller's."""
ASKS = ("Square", "SimBA")


class Counted(nn.Module):
    """A network that counts the images it is asked about."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, x: Tensor) -> Tensor:
        """The network's answer."""
        self.images += len(x)
        return self.network(x)


@dataclass(frozen=True)
class Case:
    """A network, images, and labels (of a classifier) or truths (of a restorer)."""

    name: str
    network: Counted
    x: Tensor
    target: Tensor
    device: str

    @property
    def classifies(self) -> bool:
        """Whether it is a classifier's."""
        return self.target.ndim == 1

    def loss(self, answers: Tensor, target: Tensor) -> Tensor:
        """What PGD climbs, whoever runs it."""
        return nn.functional.cross_entropy(answers, target) if self.classifies else (answers - target).square().mean()


def case(task: str, options: argparse.Namespace) -> Case:
    """The case of a task: random images, which take as long as any."""
    torch.manual_seed(0)
    device = options.device
    if task == "classification":
        loaded = load_classifier(ClassifierSpec(options.classifier), device)
        network = Counted(loaded).requires_grad_(not options.frozen).eval()
        x = torch.rand(options.batch or 32, 3, 32, 32).to(device)
        return Case(f"{options.classifier}, {len(x)} images", network, x, network(x).argmax(1), device)
    restorer = load_restorer(RestorerSpec(options.restorer), "tonemapped", device)
    network = Counted(restorer).requires_grad_(not options.frozen).eval()
    x = torch.rand(options.batch or 2, 3, options.size, options.size).to(device)
    truth = (x + 0.05 * torch.randn_like(x)).clamp(0, 1)
    return Case(f"{options.restorer}, {len(x)} images of {options.size} px", network, x, truth, device)


def bare(known: Case, method: str) -> Work:
    """The network alone, as often."""

    def gradients(steps: int) -> None:
        for _ in range(steps):
            image = known.x.clone().requires_grad_(True)
            torch.autograd.grad(known.loss(known.network(image), known.target), image)

    @torch.no_grad()
    def answers(steps: int) -> None:
        for _ in range(steps):
            known.network(known.x)

    return answers if method in ASKS else gradients


def ours(known: Case, method: str) -> Work:
    name, threat, options = OURS[method]
    usual = "cross_entropy" if method in ("PGD", "APGD") else "margin"
    goal, seeds = objective(usual if known.classifies else "mse"), range(len(known.x))

    def work(steps: int) -> None:
        attack(known.network, known.x, goal, threat, name, target=known.target, seeds=seeds, steps=steps, **options)

    return work


def of_torchattacks(known: Case, method: str) -> Work | None:
    """Of its attacks only PGD can be talked into another loss than its own."""
    import torchattacks

    victim, made = known.network, {
        "PGD": lambda n: torchattacks.PGD(victim, eps=EPS, alpha=STEP, steps=n, random_start=False),
        "APGD": lambda n: torchattacks.APGD(victim, eps=EPS, steps=n, n_restarts=1),
        "C&W": lambda n: torchattacks.CW(victim, c=1, steps=n, lr=0.01),
        "Square": lambda n: torchattacks.Square(victim, eps=TINY, n_queries=n, p_init=0.3),
    }  # fmt: skip

    class Loss(nn.Module):
        """In the place of cross-entropy."""

        def forward(self, answers: Tensor, target: Tensor) -> Tensor:
            return known.loss(answers, target)

    def work(steps: int) -> None:
        with mock.patch.object(nn, "CrossEntropyLoss", nn.CrossEntropyLoss if known.classifies else Loss):
            made[method](steps)(known.x, known.target)

    return work if method in made and (known.classifies or method == "PGD") else None


def of_foolbox(known: Case, method: str) -> Work | None:
    import foolbox

    model = foolbox.PyTorchModel(known.network, bounds=(0, 1), device=known.device)
    wanted = foolbox.criteria.Misclassification(known.target)

    class OfImages(foolbox.attacks.LinfPGD):
        """PGD with the loss of a restorer."""

        def get_loss_fn(self, model: Any, labels: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda inputs: (model(inputs) - labels).square().sum()

    def pgd(steps: int) -> None:
        found = foolbox.attacks.LinfPGD if known.classifies else OfImages
        found(abs_stepsize=STEP, steps=steps, random_start=False).run(model, known.x, wanted, epsilon=EPS)

    def cw(steps: int) -> None:
        foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=1, steps=steps, stepsize=0.01, initial_const=1.0, abort_early=False
        ).run(model, known.x, wanted)

    return {"PGD": pgd, "C&W": cw if known.classifies else None}.get(method)


def of_art(known: Case, method: str) -> Work | None:
    from art.attacks import evasion
    from art.estimators import classification, regression

    images, shared = known.x.cpu().numpy(), {"input_shape": tuple(known.x.shape[1:]), "clip_values": (0, 1)}
    shared["device_type"] = "gpu" if known.device.startswith("cuda") else "cpu"
    if not known.classifies:
        # ART makes one long row of a batch of answers, and not of the truths.
        regressor = regression.PyTorchRegressor(
            known.network, lambda a, b: (a.flatten() - b.flatten()).square().mean(), **shared
        )
        truths = known.target.cpu().numpy()
        made = {"PGD": lambda n: evasion.ProjectedGradientDescentNumpy(regressor, **steps_of(n))}
        return None if method not in made else lambda n: made[method](n).generate(images, truths)
    classes = known.network(known.x[:1]).shape[1]
    labels = nn.functional.one_hot(known.target, classes).float().cpu().numpy()
    model, sure = (
        classification.PyTorchClassifier(network, nn.CrossEntropyLoss(), nb_classes=classes, **shared)
        for network in (known.network, nn.Sequential(known.network, nn.Softmax(1)))
    )
    quiet = {"batch_size": len(images), "verbose": False}
    few = {"binary_search_steps": 1, "initial_const": 1.0, "max_halving": 1, "max_doubling": 1}
    made = {
        "PGD": lambda n: evasion.ProjectedGradientDescentPyTorch(model, **steps_of(n), **quiet),
        "APGD": lambda n: evasion.AutoProjectedGradientDescent(
            model, nb_random_init=1, loss_type="cross_entropy", **steps_of(n), **quiet
        ),
        "C&W": lambda n: evasion.CarliniL2Method(model, max_iter=n, **few, **quiet),
        "Square": lambda n: evasion.SquareAttack(model, eps=TINY, max_iter=n, p_init=0.3, **quiet),
        "SimBA": lambda n: evasion.SimBA(sure, attack="px", epsilon=TINY, max_iter=n, verbose=False),
    }
    return lambda n: made[method](n).generate(images, labels)


def steps_of(count: int) -> dict[str, Any]:
    return {"eps": EPS, "eps_step": STEP, "max_iter": count}


PEERS = {"torchattacks": of_torchattacks, "foolbox": of_foolbox, "ART": of_art}


def candidates(known: Case, method: str) -> Iterator[tuple[str, Work]]:
    """Everybody who has the attack and is installed; ours last."""
    yield "bare", bare(known, method)
    for name, peer in PEERS.items():
        try:
            work = peer(known, method)
        except ImportError:
            print(f"  {name} is not installed: left out")
            continue
        if work is not None:
            yield name, work
    yield "ours", ours(known, method)


def seconds(work: Work, steps: int, device: str) -> float:
    """Of the process on one thread of a CPU, which its neighbours change little; else of the wall."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    wait()
    started = clock()
    work(steps)
    wait()
    return clock() - started


def measure(known: Case, method: str, steps: int, rounds: int) -> None:
    """Print a row for everybody; they run in turn, round after round, so that a drift of the machine hits all."""
    found = dict(candidates(known, method))
    calls, whole, step = {}, {name: [] for name in found}, {name: [] for name in found}
    for name, work in found.items():  # warm up, and count
        known.network.images = 0
        work(steps)
        calls[name] = known.network.images / len(known.x)
    for _ in range(rounds):
        for name, work in found.items():
            short, long = (seconds(work, n, known.device) for n in (2, steps))
            whole[name].append(long)
            step[name].append((long - short) / (steps - 2))
    for name in found:
        ratios = [
            statistics.median(mine / theirs for mine, theirs in zip(times["ours"], times[name], strict=True))
            for times in (whole, step)
        ]
        print(
            f"  {method:7s}{name:13s}{statistics.median(whole[name]):8.3f} s, ours / this {ratios[0]:5.2f};"
            f"{1000 * statistics.median(step[name]):8.1f} ms a step, ours / this {ratios[1]:5.2f};"
            f"  asked {calls[name]:.1f} times"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=("classification", "restoration"))
    parser.add_argument("--methods", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--classifier", default="resnet20")
    parser.add_argument("--restorer", default="nafnet_mini")
    parser.add_argument("--size", type=int, default=48, help="side of the restorer's images")
    parser.add_argument("--batch", type=int, help="images; default: 32 of a classifier, 2 of a restorer")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frozen", action="store_true", help="give everybody weights that need no gradient")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    options = parser.parse_args()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for task in options.task or ("classification", "restoration"):
            known = case(task, options)
            print(f"{known.name}, {options.device}, {threads} threads, {options.steps} steps; {options.rounds} rounds")
            for method in options.methods:
                measure(known, method, options.steps, options.rounds)


if __name__ == "__main__":
    main()
