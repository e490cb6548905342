"""What holds of every method, whatever the images, budgets, seeds and neighbours are."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_attack import FAST, Creased, Sharpener

from udc_robust.attacks import L2, METHODS, Linf, attack, objective

CASES = [(name, norm) for name in FAST for norm in METHODS[name].norms if norm in ("linf", "l2")]


@given(
    st.sampled_from(CASES), st.sampled_from([0.0, 1 / 255, 0.05, 0.4]), st.integers(10, 15), st.integers(12, 17),
    st.lists(st.integers(0, 2**40), min_size=3, max_size=3, unique=True), st.booleans(), st.booleans(),
    st.floats(0.05, 1.0),
)  # fmt: skip
@settings(max_examples=60)
def test_inside_ball_and_box_and_by_its_own_seed_alone(case, eps, height, width, seeds, creased, with_truth, contrast):
    (name, norm), mse = case, objective("mse")
    threat = Linf(eps) if norm == "linf" else L2(30 * eps)
    # In double precision: a creased victim makes much of the ulps by which batches of other sizes differ.
    victim = (Creased() if creased else Sharpener()).double()
    generator = torch.Generator().manual_seed(sum(seeds))
    x = (0.5 + contrast * (torch.rand(3, 3, height, width, generator=generator, dtype=torch.float64) - 0.5)).clamp(0, 1)
    truth = (x + 0.02).clamp(0, 1) if with_truth else None
    together = attack(victim, x, mse, threat, name, target=truth, seeds=seeds, round_8_bit=False, **FAST[name])
    assert (threat.distance(x, together.x_adv) <= threat.eps * (1 + 1e-5) + 1e-6).all()
    assert together.x_adv.min() >= 0 and together.x_adv.max() <= 1 and together.x_adv.isfinite().all()
    own = None if truth is None else truth[[1]]
    alone = attack(victim, x[[1]], mse, threat, name, target=own, seeds=[seeds[1]], round_8_bit=False, **FAST[name])
    assert torch.allclose(alone.x_adv, together.x_adv[[1]], atol=1e-5)
