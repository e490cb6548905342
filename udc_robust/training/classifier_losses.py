"""The modes of training a classifier: each is one function from a batch to its loss.

A network sees a batch in one call, clean and attacked images together: a wrapper for several processes expects one call
a step, and batch normalisation one set of statistics. Inner attacks are made in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udc_robust.attacks import Linf, Streams, Victim, frozen, objective, perturb
from udc_robust.defences.defence import Defence, Defended, fresh
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.focal import focal_mean
from udc_robust.training.simplex import simplex_divergence
from udc_robust.training.sinkhorn import sinkhorn_divergence


@dataclass(frozen=True)
class ClassifierSetup:
    """What a mode works with.

    Attributes:
        classifier: the very weights that train, without the wrapper of several processes: attacks go through it.
        representations: what becomes of an image before it is learnt; None is the image itself.
        eps: budget of the inner attack.
        teacher: whose scores are learnt, without a gradient.
    """

    config: ClassifierConfig
    classifier: nn.Module
    representations: Sequence[Defence | None]
    eps: float | None = None
    teacher: nn.Module | None = None

    def shares(self, seeds: Sequence[int]) -> list[tuple[Defence | None, slice, list[int]]]:
        """Each representation, the rows of a batch that it gets, dealt like cards, and their seeds."""
        n = len(self.representations)
        return [(each, slice(k, None, n), list(seeds[k::n])) for k, each in enumerate(self.representations)]

    def represent(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """The batch in its representations."""
        y = x.clone()
        for defence, rows, own in self.shares(seeds):
            if defence is not None and own:
                y[rows] = fresh(defence, x[rows], Streams(own))
        return y

    def attacked(self, victim: Victim, x: Tensor, labels: Tensor | None, seeds: Sequence[int]) -> Tensor:
        """The inner attack: on the cross-entropy, or without labels on TRADES' divergence from the clean scores."""
        goal = objective("divergence" if labels is None else "cross_entropy")
        with frozen(nn.ModuleList([self.classifier, *filter(None, self.representations)])):
            with torch.no_grad():
                target = self.classifier(x) if labels is None else labels
            threat = Linf(self.config.eps if self.eps is None else self.eps)
            return perturb(
                victim, x, goal, threat, target=target, streams=Streams(seeds),
                steps=self.config.inner_steps, step_size=self.config.step_size,
            )  # fmt: skip

    def entropy(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of attacked images, weighted by what the attack did where ``focal`` says so."""
        each = F.cross_entropy(scores, labels, reduction="none", label_smoothing=self.config.label_smoothing)
        return focal_mean(each, self.config.focal)

    @torch.no_grad()
    def taught(self, x: Tensor) -> Tensor:
        """The teacher's scores."""
        assert self.teacher is not None
        return self.teacher(x)


Mode = Callable[[ClassifierSetup, nn.Module, Tensor, Tensor, list[int]], Tensor]
"""``(setup, network, images, labels, seeds) -> loss``"""


def plain(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Cross-entropy of the images in their representations: clean, transformed and hybrid training."""
    return F.cross_entropy(network(setup.represent(x, seeds)), labels)


def hybrid_adversarial(
    setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]
) -> Tensor:
    """Hybrid training on attacked images; a represented one is attacked through its representation (BPDA)."""
    x_adv = x.clone()
    for defence, rows, own in setup.shares(seeds):
        victim: Victim = setup.classifier
        if defence is not None:
            victim = Defended(defence, setup.classifier, defence.gradients["bpda"])
        if own:
            x_adv[rows] = setup.attacked(victim, x[rows], labels[rows], own)
    return setup.entropy(network(setup.represent(x_adv, seeds)), labels)


def madry(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Cross-entropy of the worst images within the budget (Madry et al. 2018, eq. 2.1)."""
    return setup.entropy(network(setup.attacked(setup.classifier, x, labels, seeds)), labels)


def trades(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Clean cross-entropy, and how far an attack moves the answer (Zhang et al. 2019, eq. 5)."""
    x_adv = setup.attacked(setup.classifier, x, None, seeds)
    clean, moved = network(torch.cat([x, x_adv])).chunk(2)
    away = focal_mean(objective("divergence").values(moved, clean), setup.config.focal)
    return F.cross_entropy(clean, labels) + setup.config.beta * away


def sat(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Adversarial cross-entropy, and the Sinkhorn divergence of clean and attacked scores (Bouniot et al. 2021)."""
    x_adv = setup.attacked(setup.classifier, x, labels, seeds)
    clean, moved = network(torch.cat([x, x_adv])).chunk(2)
    return setup.entropy(moved, labels) + sinkhorn_divergence(clean, moved)


def on_manifold(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Clean images, and attacks that a model of images can make (after OMADA, arXiv 1912.07458).

    The attack climbs through the model (a purifier, say), and what it answers is learnt, with smoothed labels where
    asked for. OMADA searches a generator's latent space; here the model's input is that space.
    """
    (model,) = setup.representations
    assert model is not None
    victim = Defended(model, setup.classifier, model.gradients["adaptive"])
    seen = setup.represent(setup.attacked(victim, x, labels, seeds), seeds)
    clean, moved = network(torch.cat([x, seen])).chunk(2)
    return F.cross_entropy(clean, labels) + setup.entropy(moved, labels)


def gccs(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Scores as Gaussians at the corners of a simplex, see `simplex_divergence`."""
    return simplex_divergence(network(x), labels, setup.config.target, setup.config.spread)


def distilled(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """L1 distance from the teacher's scores, sum over the classes, under noise (after DUCD, arXiv 2408.10647).

    The teacher is a black box: it is asked about clean images and no label is used. The paper distils first and trains
    under noise afterwards; here both are one.
    """
    noisy = x + setup.config.sigma * Streams(seeds).normal(x)
    return (network(noisy) - setup.taught(x)).abs().sum(1).mean()


def student(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Cross-entropy under noise in the features, and the teacher's softened answer (after ANI, ICPR 2020)."""
    heat, scores = setup.config.temperature, network(x, Streams(seeds))
    told = objective("divergence").values(scores / heat, setup.taught(x) / heat).mean()
    return F.cross_entropy(scores, labels) + heat**2 * told


def xat(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """Cross-entropy of clean and of masked images, and the pixels that masks keep (arXiv 1912.01810)."""
    clean, masked, kept = network(x, Streams(seeds).uniform(x[:, :1]))
    share = setup.config.mask_share
    mixed = (1 - share) * F.cross_entropy(clean, labels) + share * F.cross_entropy(masked, labels)
    return mixed + setup.config.mask_penalty * kept


def xvat(setup: ClassifierSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
    """As `xat`, with the divergence from the clean answer in place of the masked images' labels."""
    clean, masked, kept = network(x, Streams(seeds).uniform(x[:, :1]))
    away = objective("divergence").values(masked, clean.detach()).mean()
    return F.cross_entropy(clean, labels) + setup.config.mask_share * away + setup.config.mask_penalty * kept


MODES: dict[str, Mode] = {
    "clean": plain, "transformed": plain, "hybrid": plain, "hybrid_adversarial": hybrid_adversarial, "madry": madry,
    "trades": trades, "sat": sat, "xat": xat, "xvat": xvat, "on_manifold": on_manifold, "gccs": gccs,
    "distilled": distilled, "student": student,
}  # fmt: skip
