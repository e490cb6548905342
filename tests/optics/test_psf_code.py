"""PSF codes: a basis that reproduces what it was made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.optics.psf import read_psf
from udc_robust.optics.psf_code import fit_basis, load_basis, turned


def _psf(angle: float = 0.0) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(-10.0, 11), torch.arange(-10.0, 11), indexing="ij")
    blob = torch.exp(-((rows / 2) ** 2) - (columns / 5) ** 2)
    return turned((blob / blob.sum()).expand(3, 21, 21).clone(), angle)


def test_codes_rebuild_their_psfs(tmp_path) -> None:
    psfs = [_psf(angle) for angle in range(-12, 13, 4)]
    basis = fit_basis(psfs, 5)
    for psf in psfs:
        error = (basis.psf(basis.code(psf)) - psf).norm() / psf.norm()
        assert error < 0.01
    for component in basis.components.flatten(1):
        assert component[component.abs().argmax()] > 0  # codes can be made again
    gram = basis.components.flatten(1) @ basis.components.flatten(1).T
    assert torch.allclose(gram, torch.eye(5), atol=1e-4)
    basis.save(tmp_path / "basis.npz")
    assert torch.allclose(load_basis(tmp_path / "basis.npz").code(psfs[1]), basis.code(psfs[1]), atol=1e-7)


def test_turning_keeps_the_energy_and_turns() -> None:
    quarter = turned(_psf(), 90)
    assert torch.allclose(quarter.sum((1, 2)), torch.ones(3))
    assert torch.allclose(quarter, torch.rot90(_psf(), 1, (1, 2)), atol=1e-5)
    lopsided = torch.rand(3, 9, 9)
    lopsided = lopsided / lopsided.sum((1, 2), keepdim=True)
    for quarters in (1, 2, 3):  # against the clock
        assert torch.allclose(turned(lopsided, 90 * quarters), torch.rot90(lopsided, quarters, (1, 2)), atol=1e-5)
    assert torch.allclose(turned(lopsided, 45).sum((1, 2)), torch.ones(3))  # corners leave the frame


def test_mistakes(tmp_path) -> None:
    with pytest.raises(UserError, match="at least 6 PSFs, not 3"):
        fit_basis([_psf()] * 3)
    with pytest.raises(UserError, match="at least 6 PSFs, not 5"):
        fit_basis([_psf(angle) for angle in range(5)])
    with pytest.raises(UserError, match="differ in size"):
        fit_basis([_psf(), _psf()[:, :9, :9]])
    basis = fit_basis([_psf(angle) for angle in range(7)])
    with pytest.raises(UserError, match="resize it"):
        basis.code(_psf()[:, :9, :9])
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="is no PSF basis"):
        load_basis(tmp_path / "x.npz")


def test_psfs_without_components_are_told() -> None:
    with pytest.raises(UserError, match="1 px a side has no 5 components"):
        fit_basis([torch.ones(3, 1, 1)] * 9)
    with pytest.raises(UserError, match="all the same"):
        fit_basis([_psf(0)] * 9)
    for degrees in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="cannot be turned by"):
            turned(_psf(), degrees)


def test_a_basis_has_any_name_and_no_other_file_is_one(tmp_path) -> None:
    basis = fit_basis([_psf(angle) for angle in range(-12, 13, 4)], 5)
    for name in ("basis", "basis.txt", "basis.npz"):
        basis.save(tmp_path / name)
        assert torch.equal(load_basis(tmp_path / name).mean, basis.mean)
    np.savez(tmp_path / "other.npz", mean=np.zeros((3, 5, 5)), components=np.zeros((5, 3, 4, 4)))
    (tmp_path / "text.npz").write_text("no")
    for name in ("other.npz", "text.npz"):
        with pytest.raises(UserError, match=f"{name} is no PSF basis"):
            load_basis(tmp_path / name)


def test_values_near_the_largest_that_there_are(tmp_path) -> None:
    np.save(tmp_path / "psf.npy", np.full((5, 5), 1e308))
    assert torch.allclose(read_psf(tmp_path / "psf.npy"), torch.full((3, 5, 5), 1 / 25))
