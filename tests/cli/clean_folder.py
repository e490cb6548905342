"""A clean folder in which a command of the documents runs: the files it names, and sizes that take seconds.

A new example that names a file which no earlier one names needs a maker in ``FILES``.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import typer
from accelerate.state import AcceleratorState
from torch import nn

from udc_robust.cli import app, main
from udc_robust.cli.configs import SCHEMAS, find_config
from udc_robust.data.images import write_image
from udc_robust.files import shipped

SIDE = 96
WIDE = {"width": 32, "enc_blk_nums": [1, 1, 1, 28], "middle_blk_num": 1, "dec_blk_nums": [1, 1, 1, 1]}
PANORAMAS = ("vestibule", "circus_arena", "venice_sunset", "lebombo", "kiara_1_dawn")
MINE = "restorers: nafnet_mini\nattacks: [{method: pgd, steps: 1}]\neps: 4/255\ndata: {kind: embedded, limit: 2}\n"


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """All verbs of the program with their path, such as ``train restorer``."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
    for name, child in (inner or {}).items():
        yield from verbs(child, (*path, name))


VERBS = dict(verbs(typer.main.get_command(app)))


def run(*arguments: str, code: int = 0) -> None:
    """``udc-robust ARGUMENTS`` in this process; it must end with ``code``."""
    AcceleratorState._reset_state(reset_partial_state=True)  # elsewhere each training is a process of its own
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["udc-robust", *arguments])
        main()
    assert ended.value.code == code, shlex.join(arguments)


def _scene(seed: int, side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.interpolate(torch.rand(1, 3, 9, 9, generator=generator), (side, side), mode="bicubic")[0]


def _photographs(folder: Path) -> None:
    for i in range(2):
        write_image(folder / f"{i}.png", _scene(i).clamp(0, 1))


def _pairs(folder: Path) -> None:
    for i in range(2):
        write_image(folder / "gt" / f"{i}.png", _scene(i).clamp(0, 1))
        write_image(folder / "lq" / f"{i}.png", (0.8 * _scene(i)).clamp(0, 1))


def _set(folder: Path) -> None:
    _pairs(folder)
    (folder / "manifest.json").write_text('{"domain": "tonemapped"}')


def _classes(folder: Path) -> None:
    for label in ("cat", "dog"):
        _photographs(folder / label)


def _panoramas(folder: Path) -> None:
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    pixels = (8 * torch.rand(512, 1024, 3, generator=torch.Generator().manual_seed(0)) ** 8).numpy()
    assert cv2.imwrite(str(folder / f"{PANORAMAS[0]}.hdr"), pixels)
    for name in PANORAMAS[1:]:
        os.link(folder / f"{PANORAMAS[0]}.hdr", folder / f"{name}.hdr")


def _archive(path: Path) -> None:
    """Labelled JPEG files as `read_archive` wants them: two of each of ten classes."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for i in range(20):
        memory = io.BytesIO()
        picture = Image.fromarray((_scene(i, 32).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy())
        picture.save(memory, "jpeg")
        files.append(memory.getvalue())
    names = [f"{i % 10}/{i}.jpg" for i in range(20)]
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(path, buf=np.frombuffer(b"".join(files), np.uint8), offs=offsets, label=np.arange(20) % 10, name=names)


def _own_checkpoint(path: Path) -> None:
    """What BasicSR leaves of the NAFNet of the README, with random weights."""
    from udc_robust.restorers.zoo import build_network

    torch.manual_seed(0)
    torch.save({"params": build_network("NAFNet", WIDE).state_dict()}, path)


def _trained(path: Path) -> None:
    path.write_bytes((shipped("checkpoints") / "nafnet_mini.safetensors").read_bytes())


def _psf(path: Path) -> None:
    from udc_robust.optics.psf import named_psf

    np.save(path, named_psf("phone", 33).permute(1, 2, 0).numpy())


def _cell(path: Path) -> None:
    """A period of a display: open, but for wires on two sides."""
    cell = torch.ones(3, 40, 40)
    cell[:, :6], cell[:, :, :4] = 0, 0
    write_image(path, cell)


def _raw(folder: Path) -> None:
    """A split in UDC-SIT's layout."""
    for part, gain in (("GT", 1.0), ("input", 0.6)):
        (folder / part).mkdir(parents=True)
        for i in range(2):
            red, green, blue = (900 * gain * _scene(i, SIDE).clamp(0, 1)).numpy()
            np.save(folder / part / f"{i}.npy", np.stack([green, red, blue, green], -1).astype(np.uint16))


def _downloads(path: Path) -> None:
    """A list of panoramas that are all here already: nothing is fetched."""
    _panoramas(Path("hdr"))
    path.write_text(json.dumps([{"file": f"{name}.hdr", "url": f"https://x/{name}.hdr"} for name in PANORAMAS]))


def _finished(folder: Path) -> None:
    Path("small.yaml").write_text(MINE)
    run("evaluate", "small.yaml", "lpips=null", "--out", str(folder))


FILES: dict[str, Callable[[Path], object]] = {
    "mine.yaml": lambda path: path.write_text(MINE),
    "mine.safetensors": _trained,
    "net_g.pth": _own_checkpoint,
    "photo.png": lambda path: write_image(path, _scene(0).clamp(0, 1)),
    **dict.fromkeys(("photos/degraded", "photos/clean", "photos", "pictures", "attacked"), _photographs),
    "tuning": _pairs,
    **dict.fromkeys(("sets/train", "sets/validation"), _set),
    **{f"runs/sets/{name}": _set for name in ("train", "validation", "test", "tuning", "other_display")},
    **dict.fromkeys(("runs/before", "runs/after"), _finished),
    **dict.fromkeys(("animals/train", "animals/test"), _classes),
    "hdr": _panoramas,
    "downloads.json": _downloads,
    **dict.fromkeys(("measured.npy", "display.npy"), _psf),
    "cell.png": _cell,
    **{f"runs/train/{name}/{name}.safetensors": _trained for name in ("mine", "hardened")},
    "captures/phone": _photographs,
    "captures/synth": _pairs,
    "captures/raw": _raw,
    "captures/annotation_udc_sit.csv": lambda path: path.write_text("Filename,Glare\n0,1\n1,0\n"),
    **{
        f"{name}.npz": _archive
        for name in ("cifar10_train", "cifar10_test", "cifar10_jpeg_test", "ucm10_train", "ucm10_test")
    },
    **{f"data/{name}.npz": _archive for name in ("cifar10_jpeg_train20k", "cifar10_jpeg_test")},
}
TRAINING = ("steps=2", "warmup=0", "validate_every=2", "batch_size=2")
GRID = ("attacks=[{method: pgd, steps: 1}]", "eps=4/255", "draws=1", "gallery=1")
TINY = {
    "evaluate": GRID,
    "classify": GRID,
    "attack": ("--steps", "1"),
    "noise-level": ("--levels", "5", "--steps", "1", "--limit", "2", "--crop", "32"),
    "limits": ("--steps", "1", "--search-steps", "2", "--crop", "32", "--limit", "2"),
    "tolerance": ("--psf", "measured.npy", "--limit", "1", "--crop", "16", "--steps", "1", "--no-corners"),
    "synth": ("--per-source", "1", "--size", "64", "--difficulty", "0", "99"),
    "fetch": ("--list", "downloads.json"),
    "train restorer": (*TRAINING, "patch_size=32"),
    "train diffusion": (*TRAINING, "patch_size=32"),
    "train classifier": TRAINING,
    "train filter": TRAINING,
    "certify": ("--limit", "2", "--count", "20"),
    "finetune": (*TRAINING, "patch_size=32", "inner_steps=1", "validation_crops=1", "validation_size=32"),
}

LARGE = {
    "classical": ("restorers=[wiener]", "data.size=32", "data.limit=1"),
    "nafnet_mini_optics": ("train.psfs=[measured.npy]", "train.tolerances={turn: 2}", "train.difficulty=[0, 99]"),
    "published_networks": ("restorers=[discnet]", "data.size=64"),
    # Levels need more clean images than these folders have.
    "detectors": (
        "data={source: 'digits:test', limit: 3}",
        "clean={source: 'digits:train', limit: 40}",
        "detectors=[{kind: residual, defence: median, classifier: digits_mini}]",
    ),
    "detectors_captures": (
        "data={kind: embedded, size: 32, limit: 2}",
        "clean={kind: embedded, size: 24, limit: 20}",
        "detectors=[{kind: residual, defence: median, restorer: nafnet_mini}]",
    ),
    "corruptions": ("corruptions=[{kind: fog, severity: 1, place: [before, after]}]", "data.limit=2"),
    "large_study": ("data=[{kind: pairs, lq: runs/sets/test/lq, gt: runs/sets/test/gt, limit: 1}]", "preset=null"),
    "sources": (
        "classifiers=[resnet20_clean, resnet20_student]",
        "defences=[none, {kind: lq_vae, weights: lq_vae_mini}]",
        "published=[]",
        "data.limit=4",
    ),
    "scene": ("data=[{kind: embedded, limit: 1, size: 48, psf: measured.npy, space: scene, shift_px: 0.5}]",),
}
"""What else some configs need for seconds."""


def verb_of(arguments: Sequence[str]) -> str:
    """``train restorer`` of ``train restorer nafnet_mini steps=2``."""
    return " ".join(arguments[:2]) if arguments[0] == "train" else arguments[0]


def make_files(text: str) -> None:
    """Make the files of ``FILES`` that a text names and that are not here yet."""
    named = {path.rstrip("/") for path in re.findall(r"[\w./-]+", text)}
    for name, make in FILES.items():
        if any(path == name or path.startswith(f"{name}/") for path in named) and not Path(name).exists():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            make(Path(name))


def run_small(arguments: Sequence[str]) -> None:
    """Make the files that a command names, itself or in its config, and run it on little, in this folder."""
    verb = verb_of(arguments)
    of_panoramas = verb == "synth" and "--kind" not in arguments
    command = [
        *arguments,
        *TINY.get(verb, ()),
        *(("--only", "lebombo") if of_panoramas else ()),
        *(less for word in arguments for less in LARGE.get(word, ())),
    ]
    make_files(" ".join(word for before, word in zip(["", *command], command, strict=False) if before != "--out"))
    kind = "evaluate" if verb == "classify" else verb
    if kind in SCHEMAS:
        make_files(find_config(Path(arguments[len(verb.split())]), kind)[0].read_text())
    run(*command)
