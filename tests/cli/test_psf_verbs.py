"""The PSF of a display from a picture of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clean_folder import run

from udc_robust.data.images import write_image
from udc_robust.data.psf_files import load_psf
from udc_robust.optics.layout import of_cell, toled
from udc_robust.optics.psf import Camera, simulate_psf


def stripes(width: int = 160) -> np.ndarray:
    """A cell of `toled`, a sample a micrometre: opaque 20 to each side of its corner, and wires of 3."""
    place = np.minimum(np.arange(width), width - np.arange(width)) + 0.0
    return ((place[None] > 20) & (place[:, None] > 3)).astype(np.float32)


def test_a_drawn_cell_gives_the_psf_of_the_display() -> None:
    drawn, known = (simulate_psf(layout, 33) for layout in (of_cell(stripes(), 160), toled()))
    assert abs(of_cell(stripes(), 160).open_ratio - toled().open_ratio) < 0.02
    assert (drawn - known).abs().sum() < 0.05 * known.sum()
    assert (simulate_psf(of_cell(stripes(), 120), 33) - known).abs().sum() > 0.1 * known.sum()


def test_the_verb_writes_a_psf_that_others_read(capsys) -> None:
    write_image("cell.png", torch.from_numpy(stripes()).expand(3, -1, -1))
    run("psf", "cell.png", "--period", "160", "--size", "33", "--field", "256", "--out", "display.npy")
    told = capsys.readouterr()
    expected = simulate_psf(toled(), 33, Camera.for_field(256))
    assert (load_psf("display.npy") - expected).abs().sum() < 0.05 * expected.sum()
    assert "% of the display lets light through" in told.err and "next: udc-robust synth photos" in told.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["white.png", "--period", "131"], "white.png: it is all open, or all opaque"),
        (["cell.png", "--period", "131", "--size", "32"], "32"),
        (["cell.png", "--period", "131", "--out", "a.txt"], "must end in .npy"),
        (["cell.png", "--period", "0"], "--period"),
        (["cell.png", "--period", "131", "--angle", "nan"], "must be finite numbers"),
        (["cell.png", "--period", "inf"], "must be finite numbers"),
        (["cell.png", "--period", "1e6"], "all that the pupil sees of it is opaque"),
    ],
)
def test_a_layout_that_is_none(arguments, message, capsys) -> None:
    write_image("white.png", torch.ones(3, 8, 8))
    write_image("cell.png", torch.from_numpy(stripes()).expand(3, -1, -1))
    run("psf", *arguments, code=2)
    assert message in capsys.readouterr().err


def test_a_measured_psf_and_a_basis_of_the_user_are_not_written_over(capsys) -> None:
    write_image("cell.png", torch.from_numpy(stripes()).expand(3, -1, -1))
    np.save("measured.npy", np.random.default_rng(0).random((5, 5)))
    for name, command in (
        ("display.npy", ["psf", "cell.png", "--period", "160"]),
        ("b.npz", ["psf-code", "measured.npy"]),
    ):
        Path(name).write_text("mine")
        run(*command, "--out", name, code=2)
        assert "is there already" in capsys.readouterr().err and Path(name).read_text() == "mine"
    for _ in range(2):  # its own it may replace
        run("psf-code", "measured.npy", "--out", "basis.npz")
