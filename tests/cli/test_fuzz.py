"""Anything may be written in a config, an override or a file: a command ends well, or with one line and exit code 2.

`FUZZ_EXAMPLES=5000 pytest -m slow tests/cli/test_fuzz.py --hypothesis-profile=search` looks for new ones for minutes.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from udc_robust.cli import main
from udc_robust.data.images import list_images, read_image, write_image
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network

OPTIONS = {"width": 2, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
EVALUATION = {
    "data": [{"kind": "pairs", "name": "two", "lq": ["lq"], "gt": "gt", "domain": "srgb", "crop": 16, "limit": 2}],
    "restorers": [{"name": "tiny", "network": "NAFNet", "options": OPTIONS, "weights": "tiny.safetensors"}],
    "defences": ["none", {"kind": "blur", "sigma": 0.5}, {"kind": "halftone", "method": "bayer", "size": 4}],
    "attacks": [{"method": "pgd", "steps": 1, "step_size": "eps/2", "access": ["blind", "bpda"], "eot": 1}, "noise"],
    "eps": ["4/255"], "seed": 3, "device": "cpu", "batch_size": 2, "draws": 1, "lpips": None, "gallery": 1,
    "name": "fuzzed", "round_8_bit": True, "save_images": False,
}  # fmt: skip
TRAINING = {
    "name": "fuzzed", "network": "NAFNet", "options": OPTIONS, "weights": "tiny.safetensors", "train": ".",
    "validation": ".", "domain": "srgb", "loss": "l1", "patch_size": 8, "batch_size": 2, "steps": 1, "lr": 0.001,
    "warmup": 0, "ema": 0.5, "clip_grad": 1.0, "validate_every": 1, "save_every": 1, "seed": 0, "weight_decay": 0.0,
}  # fmt: skip
HOSTILE: list[Any] = [
    None, True, False, -1, 0, 1, 0.5, -0.1, math.nan, math.inf, -math.inf, 1e308, 1e-320, 2**31, 2**63, 2**64, 10**400,
    "", " ", "x", "nan", "inf", "-1", "1/0", "4/255", "eps/4", "9" * 5000, "(" * 500, "1e999", "..", ".", "/", "~",
    "/dev/null", "nowhere.py:f", "loop", "x" * 300, "lq/0.png", "tiny.safetensors", "os:path", "math:pi",
    "a:", ":", "json:loads", "torch.nn:Identity", "\u6f22\u5b57", "[bold]a[/x]", "a\nb", "\x1b[31m", "a/b", "%s", "{}",
    [], {}, [[]], [None], {"a": 1}, ["x", "x"], [1, 2, 3], [{}], {"kind": "none"}, [math.nan], "none", "srgb", "linear",
]  # fmt: skip
DAMAGED = ("lq/0.png", "gt/1.png", "tiny.safetensors", "bare.pth", "scene.npy", "psf.npy", "basis.npz", "run.yaml")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two pairs, a small network, and arrays."""
    root, generator = tmp_path_factory.mktemp("fuzz"), torch.Generator().manual_seed(0)
    for i in range(2):
        x = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 5, generator=generator), (16, 20), mode="bilinear")[0]
        write_image(root / "gt" / f"{i}.png", x)
        write_image(root / "lq" / f"{i}.png", 0.8 * x)
    torch.manual_seed(0)
    network = build_network("NAFNet", OPTIONS)
    save_weights(root / "tiny.safetensors", network, {"network": "NAFNet", "options": OPTIONS, "domain": "srgb"})
    torch.save({"params": network.state_dict()}, root / "bare.pth")
    (root / "loop").symlink_to("loop")
    np.save(root / "scene.npy", np.full((16, 16, 3), 2.5, np.float32))
    np.save(root / "psf.npy", np.random.default_rng(0).random((5, 5)))
    np.savez(root / "basis.npz", mean=np.zeros((3, 5, 5), "f4"), components=np.ones((5, 3, 5, 5), "f4"))
    (root / "run.yaml").write_text(yaml.safe_dump(EVALUATION))
    return root


@contextlib.contextmanager
def a_copy(place: Path) -> Iterator[Path]:
    """A folder of this example's own, and the command runs in it."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / "here"
        shutil.copytree(place, here, symlinks=True)
        with contextlib.chdir(here):
            yield here


def run(*arguments: str) -> int:
    """``udc-robust ARGUMENTS`` in this process: its exit code, which is 0 or, with one line, 2."""
    AcceleratorState._reset_state(reset_partial_state=True)
    told, before = io.StringIO(), sys.argv
    sys.argv = ["udc-robust", *arguments]
    code: Any = None
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = before
    lines = told.getvalue().splitlines()
    note(f"{arguments} ends with {code}: {lines[-12:]}")
    assert code in (0, 2)
    assert code == 0 or [line.startswith("udc-robust: ") for line in lines].count(True) == 1
    assert code == 0 or lines[-1].startswith("udc-robust: ")
    assert "Traceback" not in told.getvalue()
    return code


def places(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in plain values, the whole but for itself."""
    if path:
        yield path
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


@st.composite
def spoilt(draw: st.DrawFn, values: dict[str, Any]) -> dict[str, Any]:
    """A config with one or two places replaced, removed, or joined by a key that is not known."""
    values = copy.deepcopy(values)
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(list(places(values))))
        block: Any = values
        for key in path:
            block = block[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if how == "remove":
            block.pop(last)
        elif how == "add" and isinstance(block, dict):
            block[draw(st.sampled_from(["sigma", "eot", "weight", "5", "task", ""]))] = draw(st.sampled_from(HOSTILE))
        else:
            block[last] = draw(st.sampled_from(HOSTILE))
        if not values:
            break
    return values


@st.composite
def damage(draw: st.DrawFn) -> Any:
    """What happens to the bytes of a file."""
    how = draw(st.sampled_from(["cut", "flip", "insert", "empty", "other", "text"]))
    where, what = draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=40))

    def change(content: bytes) -> bytes:
        at = int(where * len(content))
        return {
            "cut": content[:at], "insert": content[:at] + what + content[at:], "empty": b"", "other": what,
            "flip": content[:at] + bytes([content[at] ^ (what[0] or 1)]) + content[at + 1 :], "text": b"[1, {a: b}",
        }[how]  # fmt: skip

    return change


def write_values(path: Path, values: Any) -> None:
    """As YAML, or as JSON where PyYAML cannot say it."""
    with contextlib.suppress(yaml.YAMLError):
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        return
    path.write_text(json.dumps(values))


def try_evaluation(place: Path, values: dict[str, Any]) -> None:
    """A run whose config was spoilt ends with finite figures, or is refused."""
    with a_copy(place) as here:
        write_values(here / "run.yaml", values)
        if run("evaluate", "run.yaml", "--out", "out") == 0:
            rows = (here / "out" / "results.csv").read_text(encoding="utf-8").splitlines()
            assert (
                len(rows) > 1 and (here / "out" / "report.html").is_file() and not any(",nan," in row for row in rows)
            )


def try_training(place: Path, values: dict[str, Any]) -> None:
    """A training whose config was spoilt ends with finite weights, or is refused."""
    with a_copy(place) as here:
        write_values(here / "train.yaml", values)
        if run("train", "restorer", "train.yaml", "--out", "out") == 0:
            (weights,) = (here / "out").rglob("*.safetensors")
            assert all(tensor.isfinite().all() for tensor in load_file(weights).values())


def try_damage(place: Path, name: str, change: Any) -> None:
    """Every verb that reads a file takes it, or names it."""
    with a_copy(place) as here:
        (here / name).write_bytes(change((here / name).read_bytes()))
        weights = name if name in ("tiny.safetensors", "bare.pth") else "tiny.safetensors"
        if run("restore", "lq", "scene.npy", "--weights", weights, "--out", "restored") == 0:
            assert all(read_image(path).pixels.isfinite().all() for path in list_images(here / "restored"))
        run("evaluate", "run.yaml", f"restorers.0.weights={weights}", "--out", "out")
        run("psf-code", "psf.npy", "--out", "made.npz")
        run("psf-code", "psf.npy", "--basis", "basis.npz")
        run(
            "synth",
            "gt",
            "--kind",
            "photo",
            "--size",
            "12",
            "--difficulty",
            "0",
            "99",
            "--psf",
            "psf.npy",
            "--out",
            "set",
        )


def try_override(place: Path, path: tuple[Any, ...], value: str) -> None:
    """An override of any place by any text."""
    with a_copy(place):
        run("evaluate", "run.yaml", f"{'.'.join(map(str, path))}={value}", "--out", "out")


OVERRIDES = st.sampled_from(
    [str(value) for value in HOSTILE] + ["[", "{a", "&a [*a]", "!!int x", "2024-13-45", "*x", "\t"]
)
few = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
many = settings(few, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "300")))


@few
@given(spoilt(EVALUATION))
def test_a_spoilt_evaluation(place, values) -> None:
    try_evaluation(place, values)


@few
@given(spoilt(TRAINING))
def test_a_spoilt_training(place, values) -> None:
    try_training(place, values)


@few
@given(st.sampled_from(list(places(EVALUATION))), OVERRIDES)
def test_a_hostile_override(place, path, value) -> None:
    try_override(place, path, value)


@settings(few, max_examples=6)
@given(st.sampled_from(DAMAGED), damage())
def test_a_damaged_file(place, name, change) -> None:
    try_damage(place, name, change)


@pytest.mark.slow
@pytest.mark.timeout(0)
@many
@given(st.data())
def test_many_of_all(place, data) -> None:
    kind = data.draw(st.sampled_from(["evaluation", "training", "override", "damage"]))
    if kind == "evaluation":
        try_evaluation(place, data.draw(spoilt(EVALUATION)))
    elif kind == "training":
        try_training(place, data.draw(spoilt(TRAINING)))
    elif kind == "override":
        try_override(place, data.draw(st.sampled_from(list(places(EVALUATION)))), data.draw(OVERRIDES))
    else:
        try_damage(place, data.draw(st.sampled_from(DAMAGED)), data.draw(damage()))
