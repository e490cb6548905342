"""Simulated PSFs against diffraction theory, and reading of measured ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.optics.layout import rasterise
from udc_robust.optics.psf import Camera, array_shapes, encircled_energy, named_psf, psf_names, read_psf, simulate_psf

ROW = {"radii": [10, 20, 40, 80], "energy": [0.684, 0.809, 0.905, 0.975]}


@pytest.mark.parametrize("name", psf_names())
def test_named_psfs_are_normalised_and_not_negative(name: str) -> None:
    psf = named_psf(name, 65)
    assert psf.shape == (3, 65, 65) and psf.dtype == torch.float32
    assert psf.min() >= 0
    torch.testing.assert_close(psf.sum(dim=(1, 2)), torch.ones(3))
    assert int(psf[0].argmax()) == 65 * 65 // 2  # the undiffracted order is in the middle


@pytest.mark.parametrize(("size", "field"), [(129, 256), (401, 800)])
def test_the_phone_is_near_the_estimated_row(size: int, field: int) -> None:
    radii = [radius * field / 800 for radius in ROW["radii"]]
    energy = encircled_energy(named_psf("phone", size, field), radii)[0]
    np.testing.assert_allclose(energy.numpy(), ROW["energy"], atol=0.02)


def test_the_phone_is_near_the_estimated_core() -> None:
    energy = encircled_energy(named_psf("phone", 401, 800), [1.5, 2.5])[0]
    np.testing.assert_allclose(energy.numpy(), [0.453, 0.607], atol=0.02)


def test_harsher_displays_scatter_more() -> None:
    core = [float(encircled_energy(named_psf(name), [3.2])[0, 0]) for name in ("phone", "phone_dense", "phone_harsh")]
    assert core[0] > core[1] + 0.05 and core[1] > core[2] + 0.05


def test_an_open_pupil_gives_the_airy_disc() -> None:
    camera = Camera(focal_length=40000, pixel=1.0)
    energy = encircled_energy(simulate_psf(rasterise(lambda x, y: x < np.inf), 129, camera), [14.9])
    # The first dark ring lies at 1.22 wavelengths x f-number = 24.4 x wavelength, and holds 83.8 % of the energy.
    assert energy[0, 0] == pytest.approx(0.838, abs=0.03)


def test_orders_of_a_grating_move_with_wavelength() -> None:
    def stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.abs((x + 50) % 100 - 50) < 25

    psf = simulate_psf(rasterise(stripes), 65, Camera(pixel=1.6))
    profile = psf[:, 32, 38:].numpy()  # beyond the central order
    first_order = profile[:, :13].argmax(axis=1) + 6
    # wavelength x focal length / period, in pixels: 15.25, 13.5, 11.6
    np.testing.assert_allclose(first_order, [15.25, 13.5, 11.6], atol=1.01)


def test_energy_is_counted_up_to_and_with_the_radius() -> None:
    flat = torch.ones(2, 5, 5) / 25
    expected = torch.tensor([1, 1, 5, 9, 13, 21, 25]) / 25
    assert torch.allclose(encircled_energy(flat, [0, 0.9, 1, 2**0.5 + 1e-6, 2, 2.3, 3]), expected.expand(2, 7))


def test_named_psfs_cannot_be_changed_by_a_caller() -> None:
    named_psf("phone", 33).zero_()
    assert named_psf("phone", 33).sum() == pytest.approx(3, abs=1e-4)


@pytest.mark.parametrize("size", [0, -3, 128])
def test_even_sizes_are_refused(size: int) -> None:
    with pytest.raises(UserError, match="odd"):
        named_psf("phone", size)


def test_a_misspelt_name_is_mended() -> None:
    with pytest.raises(UserError, match="did you mean 'phone'"):
        named_psf("phon")


def gaussian(side: int = 7) -> np.ndarray:
    axis = np.arange(side) - side // 2
    return np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 4).astype(np.float32)


@pytest.mark.parametrize("layout", ["grey", "hwc", "chw", "hw1"])
def test_channel_layouts(tmp_path: Path, layout: str) -> None:
    plane = gaussian()
    colour = np.stack([plane, plane**2, plane**3])
    array = {"grey": plane, "hw1": plane[..., None], "chw": colour, "hwc": colour.transpose(1, 2, 0)}[layout]
    np.save(tmp_path / "a.npy", array)
    psf = read_psf(tmp_path / "a.npy")
    expected = colour if layout in ("chw", "hwc") else np.stack([plane] * 3)
    expected = expected / expected.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(psf.numpy(), expected, rtol=1e-5)


def test_npz_and_mat(tmp_path: Path) -> None:
    from scipy.io import savemat

    plane = gaussian()
    np.savez(tmp_path / "a.npz", psf=plane, other=plane**2)
    savemat(tmp_path / "a.mat", {"kernel": plane})
    expected = read_psf(tmp_path / "a.npz")
    torch.testing.assert_close(read_psf(tmp_path / "a.mat"), expected)
    other = read_psf(f"{tmp_path / 'a.npz'}:other")
    assert other[0, 3, 3] > expected[0, 3, 3]
    with pytest.raises(UserError, match="choose one of"):
        read_psf(tmp_path / "a.npz", key="third")


def test_the_arrays_of_a_file_the_one_that_is_taken_first(tmp_path: Path) -> None:
    from scipy.io import savemat

    arrays = {"half": np.ones((5, 5)), "psf": np.ones((9, 9, 3))}
    np.savez(tmp_path / "a.npz", **arrays)
    savemat(tmp_path / "a.mat", arrays)
    for ending in ("npz", "mat"):
        assert list(array_shapes(tmp_path / f"a.{ending}").items()) == [("psf", (9, 9, 3)), ("half", (5, 5))]
        assert next(iter(array_shapes(f"{tmp_path}/a.{ending}:half"))) == "half"
    assert array_shapes(tmp_path / "a.npy") == {}


def test_exr(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    colour = np.stack([gaussian(), gaussian() ** 2, gaussian() ** 3], axis=-1)
    with openexr.File({"type": openexr.scanlineimage}, {"RGB": colour}) as file:
        file.write(str(tmp_path / "a.exr"))
    np.save(tmp_path / "a.npy", colour)
    torch.testing.assert_close(read_psf(tmp_path / "a.exr"), read_psf(tmp_path / "a.npy"))


def test_an_even_side_keeps_its_centre(tmp_path: Path) -> None:
    point = np.zeros((8, 8))
    point[4, 4] = 2
    np.save(tmp_path / "even.npy", point)
    psf = read_psf(tmp_path / "even.npy")
    assert psf.shape == (3, 7, 7)
    assert psf[0, 3, 3] == 1


BAD = {
    "nan": (np.array([[np.nan]]), "NaN"),
    "negative": (gaussian() - 0.5, "negative"),
    "dark": (np.zeros((5, 5)), "without light"),
    "dark channel": (np.stack([gaussian(), gaussian(), gaussian() * 0]), "without light"),
    "oblong": (np.ones((5, 7)), "square"),
    "four channels": (np.ones((5, 5, 4)), "square"),
    "empty": (np.ones((0, 0)), "square"),
    "complex": (np.ones((3, 3)) * 1j, "real numbers"),
    "objects": (np.array([[None]]), "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_name_the_file(tmp_path: Path, case: str) -> None:
    array, message = BAD[case]
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message) as error:
        read_psf(tmp_path / "bad.npy")
    assert "bad.npy" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz", "cut.mat", "cut.exr", "cut.txt", "missing.npy"])
def test_bad_files_name_themselves(tmp_path: Path, name: str) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"\x93NUMPY garbage")
    with pytest.raises(UserError, match=name):
        read_psf(tmp_path / name)


def test_the_estimated_psf_of_the_data_kit(shared: Path) -> None:
    psf = read_psf(f"{shared / 'data/psf/zte_axon20_psf_estimated.npz'}:psf_032")
    assert psf.shape == (3, 129, 129)
    assert float(encircled_energy(psf, [3.2])[0, 0]) == pytest.approx(0.687, abs=0.002)
