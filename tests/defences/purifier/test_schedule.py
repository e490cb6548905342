"""Noise levels: the three ways to say one go together, and the steps are spread as diffusers spreads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_purifier import linear_schedule

from udc_robust.defences.purifier.plan import PurifyOptions
from udc_robust.errors import UserError

SCHEDULE = linear_schedule()


@pytest.mark.parametrize("level, sigma_255", [(5, 3.8), (20, 10.1), (50, 22.4), (100, 43.6), (150, 66.6)])
def test_sigma_of_known_levels(level, sigma_255) -> None:
    assert SCHEDULE.sigma(level) * 255 == pytest.approx(sigma_255, abs=0.05)


@given(st.integers(0, 999))
def test_every_way_leads_back(level) -> None:
    assert SCHEDULE.level_of_sigma(SCHEDULE.sigma(level)) == level
    assert SCHEDULE.level_of_strength(SCHEDULE.strength(level)) == level
    for options in ({"sigma": SCHEDULE.sigma(level)}, {"strength": SCHEDULE.strength(level)}, {"noise_level": level}):
        assert PurifyOptions.of(options).plan(SCHEDULE).noise_level == level


@given(st.floats(0.001, 2.0))
def test_a_sigma_gets_the_smallest_level_that_has_it(sigma) -> None:
    level = SCHEDULE.level_of_sigma(sigma)
    assert SCHEDULE.sigma(level) >= sigma * (1 - 1e-8)
    assert level == 0 or SCHEDULE.sigma(level - 1) < sigma


@given(st.integers(0, 999), st.data())
def test_steps_fall_from_the_level_and_end_above_clean(level, data) -> None:
    steps = data.draw(st.integers(1, level + 1))
    found = SCHEDULE.timesteps(level, steps)
    assert len(found) == len(set(found)) == steps and found[0] == level and min(found) >= 0
    assert list(found) == sorted(found, reverse=True)
    if steps == level + 1:
        assert found == tuple(range(level, -1, -1))


def test_steps_are_diffusers_trailing_ones() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(50)
    assert SCHEDULE.timesteps(99, 5) == tuple(scheduler.timesteps[-5:].tolist())
    # Steps that do not divide evenly go to the nearest level.
    assert SCHEDULE.timesteps(9, 3) == (9, 6, 2) and SCHEDULE.timesteps(10, 4) == (10, 7, 5, 2)


def test_a_share_of_the_chain_is_its_nearest_level() -> None:
    levels = {0.0: 0, 0.0194: 19, 0.0196: 20, 0.9994: 999, 0.9999: 999}
    assert {share: SCHEDULE.level_of_strength(share) for share in levels} == levels
    assert SCHEDULE.strength(250) == 0.25


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise_level": 3, "sigma": 0.1}, "one of noise_level, sigma and strength"),
        ({"sigma": 0.1, "strength": 0.1}, "one of noise_level, sigma and strength"),
        ({"noise_level": -1}, "noise_level: Input should be greater than or equal to 0"),
        ({"noise_level": 1000}, r"in 0\.\.999"),
        ({"sigma": 0.0}, "sigma: Input should be greater than 0"),
        ({"sigma": float("nan")}, "sigma: Input should be a finite number"),
        ({"sigma": 1e6}, "more noise than the schedule"),
        ({"strength": 1.0}, "strength: Input should be less than 1"),
        ({"strength": -0.1}, "strength: Input should be greater than or equal to 0"),
    ],
)
def test_mistakes(options, message) -> None:
    with pytest.raises(UserError, match=message):
        PurifyOptions.of(options).plan(SCHEDULE)


def test_a_model_has_a_level_of_its_own() -> None:
    assert PurifyOptions.of({}).plan(SCHEDULE, 33).noise_level == 33


@pytest.mark.parametrize("steps", [0, 22])
def test_impossible_step_counts(steps) -> None:
    with pytest.raises(UserError, match=r"steps must be in 1\.\.21"):
        SCHEDULE.timesteps(20, steps)
