"""What `udc-robust tolerance` refuses: one line, exit code 2, before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clean_folder import run

from udc_robust.data.images import write_image


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("psf.npy", np.ones((9, 9)))
    np.save("wide.npy", np.ones((61, 61)))
    write_image(tmp_path / "light" / "a.npy", 3 * torch.rand(3, 50, 50))
    write_image(tmp_path / "photos" / "a.png", torch.rand(3, 50, 50))


LIGHT = ["--scenes", "light", "--kind", "hdr", "--limit", "1", "--crop", "16"]


@pytest.mark.parametrize(
    "words, told",
    [
        (["--turn", "0", *LIGHT], "a tolerance of turn of 0 leaves nothing to vary: give more than 0"),
        (["--turn", "200", *LIGHT], "beyond the pupil: at most 180 °"),
        (["--shift", "5", *LIGHT], "beyond the pupil: at most 4 px"),
        (["--opening", "1", *LIGHT], "does not tell its display, so no tolerance of opening"),
        (["--psf", "wide.npy", *LIGHT], "PSF wide.npy is 61 px, larger than the scene a_000 (50x50)"),
        (["--psf", "phon", *LIGHT], "PSF phon does not exist"),
        (["--scenes", "photos", "--kind", "hdr"], "is a photograph without HDR data: use --kind photo"),
        ([*LIGHT[:-1], "64"], "smaller than --crop 64"),
        (["--steps", "-1", *LIGHT], "steps: "),
    ],
)
def test_a_mistake_is_told_in_one_line(words, told, capsys) -> None:
    run("tolerance", "wiener", "--psf", "psf.npy", *words, "--out", "out", code=2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0], lines
    assert not Path("out").exists()
