"""What is wrong with the user's own code is found before the folder is claimed, and blamed by its line."""

from __future__ import annotations

import pytest
from small_run import make_workplace, run, values

from udc_robust.errors import UserError

MINE = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

class Narrow(Base):
    def forward(self, x):
        return self.layer(x)[..., 1:]

class Grey(Base):
    def forward(self, x):
        return self.layer(x)[:, :1]

class Lost(Base):
    def forward(self, x):
        return self.layer(x) * float("nan")

class Deaf(Base):
    def forward(self, x):
        return 0 * self.layer(x) + 0.5

class Flat(Base):
    def forward(self, x):
        with torch.no_grad():
            return self.layer(x) + x

class Init(Base):
    def __init__(self):
        raise KeyError("weights")

def lost(x):
    return x * float("nan")

def forgets(oracle, x, threat):
    oracle.values(x)

def blind(oracle, x, threat):
    return x * float("nan")

def fails(oracle, x, threat):
    return x + nothing

def total(output, target):
    return (output - target).square().mean()

def cut(output, target):
    return (output - target).detach().square().flatten(1).mean(1)

def number(output, target):
    return 3.0

from udc_robust.defences.defence import Defence

class Breaks(Defence):
    def draw(self, x, streams):
        return x.new_empty(len(x), 0) + nothing

class Halves(Defence):
    def forward(self, x, noise):
        return x[..., ::2]
"""


@pytest.fixture
def place(tmp_path):
    (make_workplace(tmp_path) / "mine.py").write_text(MINE)
    return tmp_path


@pytest.mark.parametrize(
    "key, name, message",
    [
        ("restorers", "Narrow", r"answers to \(1, 3, 24, 32\) with \(1, 3, 24, 31\)"),
        ("restorers", "Grey", r"answers to \(1, 3, 24, 32\) with \(1, 1, 24, 32\)"),
        ("restorers", "Lost", "answers with NaN"),
        ("restorers", "Deaf", "answers the same to different images"),
        ("restorers", "Flat", "answers without a gradient"),
        ("restorers", "Init", r"KeyError: 'weights' \(.*mine\.py, line 33\)"),
        ("defences", "lost", "defence 'lost' makes NaN or infinity"),
        ("defences", "Breaks", r"defence 'Breaks': NameError: name 'nothing' is not defined \(.*mine\.py, line 60\)"),
        ("defences", "Halves", r"defence 'Halves' makes \(1, 3, 24, 16\) of images \(1, 3, 24, 32\)"),
        ("attacks", "forgets", "makes NoneType of images"),
        ("attacks", "blind", "makes NaN or infinity of images"),
        ("attacks", "fails", r"NameError: name 'nothing' is not defined \(.*mine\.py, line 45\)"),
        ("metrics", "number", "makes float of 1 images"),
        ("objective", "total", r"makes \(\) of 1 images"),
        ("objective", "cut", "has no gradient"),
    ],
)
def test_it_is_told_before_the_work(key, name, message, place) -> None:
    path = f"{place / 'mine.py'}:{name}"
    change = {
        "restorers": {"restorers": [{"name": "mine", "network": path}]},
        "objective": {"attacks": [{"method": "pgd", "steps": 1, "objective": path}]},
    }.get(key, {key: [path]})
    with pytest.raises(UserError, match=message) as caught:
        run(place, "out", **change)
    assert "\n" not in str(caught.value) and not (place / "out").exists()


def test_an_option_that_is_impossible_at_one_eps(place) -> None:
    attacks = [{"method": "pgd", "steps": 1, "step_size": "eps/4"}]
    with pytest.raises(UserError, match=r"attack 'pgd' at eps 0: step_size .* must be positive"):
        run(place, "out", attacks=attacks, eps=[0, "1/255"])
    assert not (place / "out").exists()


def test_a_large_image_is_answered_whole_once_and_the_rest_is_seen_on_its_middle(place, monkeypatch) -> None:
    from udc_robust.grid import check

    asked = []
    monkeypatch.setattr(check, "_ENOUGH", 16)
    whole = check.answers

    def counted(victim, x, *rest, **named):
        asked.append(x.shape[-2:])
        return whole(victim, x, *rest, **named)

    monkeypatch.setattr(check, "answers", counted)
    run(place, "out", attacks=[{"method": "pgd", "steps": 1}], defences=["none"])
    assert asked.count((24, 32)) == 1 and asked.count((16, 16)) == 5


def test_a_gradient_that_would_not_fit_is_refused_before_the_work(place, monkeypatch) -> None:
    from types import SimpleNamespace

    from udc_robust import limits
    from udc_robust.grid import check

    monkeypatch.setattr(check, "_ENOUGH", 16)
    free = SimpleNamespace(available=100_000)
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: free)
    attacks = [{"method": "pgd", "steps": 1}]
    with pytest.raises(UserError, match=r"gradient of restorer 'tiny' for 2 images of 36 x 28 px .*`batch_size`"):
        run(place, "out", attacks=attacks, defences=["none"])
    run(place, "queries", attacks=[{"method": "square", "steps": 2}], defences=["none"])


def test_an_attack_that_only_the_first_images_meet_is_tried_too(place) -> None:
    first = values(place)["data"][0]
    data = [{**first, "attacks": ["fails"]}, {**first, "name": "more", "attacks": ["pgd"]}]
    with pytest.raises(UserError, match="name 'nothing' is not defined"):
        run(place, "out", data=data, attacks=[f"{place / 'mine.py'}:fails", {"method": "pgd", "steps": 1}])
    assert not (place / "out").exists()
