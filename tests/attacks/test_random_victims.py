"""Victims that answer differently each time: EOT, unknown and known seeds, counts, transfers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import Linf, Streams, answers, attack, objective, rejudged
from udc_robust.attacks.meter import Meter
from udc_robust.attacks.oracle import Chance, Oracle


class Jittered(nn.Module):
    """A non-linear restorer whose gain is drawn anew for each answer."""

    random = True

    def forward(self, x: Tensor, streams: Streams) -> Tensor:
        gain = 1 + 0.5 * streams.normal(x.new_empty(len(x), 1, 1, 1))
        return x + gain * (3 * x).sin() / 3


def _images(batch: int = 2) -> Tensor:
    levels = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.round((0.2 + 0.6 * levels) * 255) / 255


def _oracle(x: Tensor, **chance) -> Oracle:
    mse = objective("mse")
    goal = torch.full((len(x),), torch.inf)
    return Oracle(Jittered(), mse, x, 0.9 * x, goal, Meter(len(x)), Streams([1, 2]), Chance(seeds=[5, 6], **chance))


def test_eot_is_the_mean_over_draws() -> None:
    x = _images()
    one_by_one = _oracle(x)
    gradients = torch.stack([one_by_one.answer(x).gradient for _ in range(4)])
    together = _oracle(x, eot=4).answer(x)
    assert torch.allclose(together.gradient, gradients.mean(0), atol=1e-7)
    assert not torch.allclose(gradients[0], gradients[1])


def test_rows_keep_their_own_streams() -> None:
    x = _images()
    whole, part = _oracle(x), _oracle(x)
    both = whole.values(x)
    assert torch.equal(part.values(x[1:], rows=torch.tensor([1])), both[1:])
    assert not torch.equal(whole.values(x), both)  # a query meets a fresh draw


def test_every_draw_is_counted() -> None:
    x = _images()
    result = attack(Jittered(), x, objective("mse"), Linf(0.05), "pgd", target=x, seeds=[1, 2], steps=3, eot=4, draws=5)
    assert result.meter.backwards.tolist() == [12, 12] and result.meter.queries.tolist() == [1, 1]
    assert len(result.adv_outputs) == len(result.clean_outputs) == 5


def test_who_knows_the_seed_plays_against_a_fixed_victim() -> None:
    x = _images()
    options = {"target": x, "seeds": [1, 2], "judge_seeds": [8, 9], "steps": 5}
    known = attack(Jittered(), x, objective("mse"), Linf(0.05), "pgd", known_seed=True, draws=6, **options)
    assert len(known.adv_outputs) == 1
    judged = answers(Jittered(), known.x_adv, [8, 9])
    assert torch.equal(judged, known.adv_outputs)
    # An average over draws that are never deployed would lead him astray.
    again = attack(Jittered(), x, objective("mse"), Linf(0.05), "pgd", known_seed=True, eot=8, **options)
    assert torch.equal(again.x_adv, known.x_adv) and again.meter.backwards.tolist() == [5, 5]
    unknown = attack(Jittered(), x, objective("mse"), Linf(0.05), "pgd", draws=6, **options)
    first_draw = objective("mse").values(unknown.adv_outputs[0], x)
    assert (known.adv_values >= first_draw - 1e-6).all()


@pytest.mark.parametrize("judge_seeds", [None, [8, 9]])
@pytest.mark.parametrize("eot", [1, 4])
def test_the_attacker_never_meets_a_draw_of_the_judge(judge_seeds, eot) -> None:
    drawn: list[list[float]] = []

    class Spied(Jittered):
        def forward(self, x: Tensor, streams: Streams) -> Tensor:
            gain = streams.normal(x.new_empty(len(x), 1, 1, 1))
            drawn.append(gain.flatten().tolist())
            return x + gain * (3 * x).sin() / 3

    x, draws = _images(), 6
    options = {"target": x, "seeds": [1, 2], "judge_seeds": judge_seeds, "draws": draws, "steps": 5, "eot": eot}
    attack(Spied(), x, objective("mse"), Linf(0.05), "pgd", **options)
    before, during, after = drawn[:draws], drawn[draws:-draws], drawn[-draws:]
    assert before == after and len(during) == 6
    judged, met = (list(itertools.chain(*calls)) for calls in (before, during))
    assert len(set(judged)) == 2 * draws and len(set(met)) == len(met) and not set(judged) & set(met)


def test_an_image_alone_meets_the_same_draws() -> None:
    x = _images()
    options = {"steps": 3, "eot": 2, "draws": 3}
    both = attack(Jittered(), x, objective("mse"), Linf(0.05), "pgd", target=x, seeds=[1, 2], **options)
    alone = attack(Jittered(), x[1:], objective("mse"), Linf(0.05), "pgd", target=x[1:], seeds=[2], **options)
    assert torch.allclose(both.x_adv[1:], alone.x_adv, atol=1e-6)
    assert torch.allclose(both.adv_outputs[:, 1:], alone.adv_outputs, atol=1e-6)


def test_known_answers_to_the_clean_images_are_used_and_no_more_than_are_judged() -> None:
    x, mse = _images(), objective("mse")
    options = {"seeds": [1, 2], "judge_seeds": [8, 9], "steps": 2}
    computed = attack(Jittered(), x, mse, Linf(0.05), "pgd", draws=3, **options)
    answered = answers(Jittered(), x, [8, 9], 5)
    given = attack(Jittered(), x, mse, Linf(0.05), "pgd", draws=3, clean_outputs=answered, **options)
    assert torch.equal(given.clean_outputs, computed.clean_outputs) and torch.equal(given.x_adv, computed.x_adv)
    known = attack(Jittered(), x, mse, Linf(0.05), "pgd", draws=3, known_seed=True, clean_outputs=answered, **options)
    assert len(known.clean_outputs) == len(known.adv_outputs) == 1


def test_without_a_truth_the_mean_of_the_clean_answers_is_the_target() -> None:
    x, mse = _images(), objective("mse")
    result = attack(Jittered(), x, mse, Linf(0.05), "noise", seeds=[1, 2], draws=4)
    middle = result.clean_outputs.mean(0)
    for outputs, values in ((result.clean_outputs, result.clean_values), (result.adv_outputs, result.adv_values)):
        assert torch.allclose(values, torch.stack([mse.values(output, middle) for output in outputs]).mean(0))
    assert (result.clean_values > 0).all()


def test_labels_that_nobody_gave_are_the_answer_to_the_mean_score() -> None:
    class Loud(nn.Module):
        """Mostly says 1 in a low voice, sometimes 0 at the top of it."""

        random = True

        def forward(self, x: Tensor, streams: Streams) -> Tensor:
            loud = streams.uniform(x[:, :1, :1, :1]).flatten() < 0.3
            return torch.stack([20.0 * loud, 1.0 * ~loud], 1) - 1 + 0 * x.mean((1, 2, 3))[:, None]

    x = torch.rand(12, 1, 2, 2)
    seeds = list(range(12))
    result = attack(Loud(), x, objective("margin"), Linf(0.01), "noise", seeds=seeds, judge_seeds=seeds, draws=9)
    labels = result.clean_outputs.mean(0).argmax(1)
    assert (labels != result.clean_outputs[0].argmax(1)).any()
    expected = torch.stack([objective("margin").values(output, labels) for output in result.clean_outputs]).mean(0)
    assert torch.allclose(result.clean_values, expected)


def test_a_transfer_counts_from_what_the_other_victim_does_to_clean_images() -> None:
    """The same images break a good restorer and leave a bad one as bad as it was."""
    x, mse = _images(), objective("mse")
    gt = (x + 0.01).clamp(0, 1)
    made = attack(lambda x: x, x, mse, Linf(0.05), "pgd", target=gt, seeds=[1, 2], steps=5)
    assert made.success.all()
    dull = lambda x: 0.5 * x  # noqa: E731
    for target in (gt, None):
        clean = answers(dull, x, [1, 2])
        moved = rejudged(made, dull, mse, target=target, judge_seeds=[1, 2], clean_outputs=clean)
        truth = clean[0] if target is None else target
        assert torch.allclose(moved.clean_values, mse.values(dull(x), truth))
        assert torch.allclose(moved.adv_values, mse.values(dull(made.x_adv), truth))
        assert torch.equal(moved.success, moved.adv_values >= mse.goal(moved.clean_values))
        assert bool(moved.success.any()) is (target is None)


@pytest.mark.parametrize("draws", [1, 3])
def test_a_transfer_is_judged_on_the_other_victim(draws) -> None:
    x, mse = _images(), objective("mse")
    made = attack(lambda x: x + (3 * x).sin() / 3, x, mse, Linf(0.05), "pgd", target=x, seeds=[1, 2], steps=3)
    clean = answers(Jittered(), x, [3, 4], draws)
    moved = rejudged(made, Jittered(), mse, target=x, judge_seeds=[3, 4], clean_outputs=clean)
    assert torch.equal(moved.adv_outputs, answers(Jittered(), made.x_adv, [3, 4], draws))
    expected = torch.stack([mse.values(output, x) for output in moved.adv_outputs]).mean(0)
    assert torch.allclose(moved.adv_values, expected) and moved.meter is made.meter and moved.x_adv is made.x_adv
