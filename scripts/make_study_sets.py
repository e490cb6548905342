"""Make the sets of `configs/evaluate/large_study.yaml`: crops of 128 px from four sources, in ``runs/sets/study``.

Example: python scripts/make_study_sets.py --panoramas hdr --stills stills --photographs kodak --synth SYNTH/test

- ``panoramas``: four views of each of five HDR panoramas (those that are there) that no shipped checkpoint was trained
  on, behind `phone`;
- ``stills``: two crops of each HDR photograph, behind `phone`;
- ``photographs``: a crop of each photograph, made pseudo-HDR, behind `phone`;
- ``synth``: four crops of each published pair of the SYNTH set (Feng et al., CVPR 2021), whose captures are not ours.
  Pairs are 8-bit and tone-mapped; their names differ in GT and LQ only. A border of 40 px, where they were padded, is
  left out.

A source that is not given is not made. Every set has a manifest that names each crop's scene.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from udc_robust.data.images import list_images, read_image, write_image
from udc_robust.data.synth import SynthSettings, synthesise
from udc_robust.errors import UserError
from udc_robust.files import write_text

SIDE, BORDER = 128, 40
TEST_PANORAMAS = ("st_peters_square_night", "pmndrs_esplanade", "empty_warehouse_01", "modern_buildings_2",
                  "venice_sunset")  # fmt: skip
SETTINGS = {
    "panoramas": SynthSettings(kind="panorama", per_source=4, size=SIDE),
    "stills": SynthSettings(kind="hdr", per_source=2, size=SIDE),
    "photographs": SynthSettings(kind="photo", per_source=1, size=SIDE),
}


def crop_synth_pairs(folder: Path, out: Path) -> None:
    """Write four crops, one a quadrant, of each pair of a folder, and the manifest.

    Raises:
        UserError: no pairs, one without its partner, or one that is too small.
    """
    by_stem = {path.name.split(".")[0]: path for path in list_images(folder)}
    truths = {stem: path for stem, path in by_stem.items() if "GT" in stem}
    if not truths:
        raise UserError(f"{folder} has no image with GT in its name: give pairs such as GT1.png and LQ1.png")
    entries = []
    for stem, path in truths.items():
        partner = by_stem.get(stem.replace("GT", "LQ"))
        if partner is None:
            raise UserError(f"{path} has no capture {stem.replace('GT', 'LQ')}.*: add it, or remove the truth")
        pair = {"gt": read_image(path).pixels, "lq": read_image(partner).pixels}
        height, width = pair["gt"].shape[-2:]
        if min(height, width) < 2 * (SIDE + BORDER):
            raise UserError(f"{path} is {height}x{width}: pairs need {2 * (SIDE + BORDER)} px")
        for number in range(4):
            top, left = (
                BORDER + (length // 2 - BORDER) * half + (length // 2 - BORDER - SIDE) // 2
                for length, half in ((height, number // 2), (width, number % 2))
            )
            name = f"{stem}_{number:03d}"
            for part, image in pair.items():
                write_image(out / part / f"{name}.png", image[:, top : top + SIDE, left : left + SIDE])
            entries.append({"name": name, "source": path.name, "top": top, "left": left})
    write_text(out / "manifest.json", json.dumps({"domain": "tonemapped", "pairs": entries}, indent=1))


def _test_panoramas(folder: Path) -> list[str]:
    """Those of the test panoramas that a folder has.

    Raises:
        UserError: none.
    """
    there = {path.name.split(".")[0] for path in list_images(folder)}
    found = [name for name in TEST_PANORAMAS if name in there]
    if not found:
        raise UserError(f"{folder} has none of the test panoramas: {', '.join(TEST_PANORAMAS)}")
    return found


def main() -> None:
    """Make those sets whose sources are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*SETTINGS, "synth"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/sets/study"))
    given = vars(parser.parse_args())
    out = given.pop("out")
    for name, settings in SETTINGS.items():
        if given[name] is not None:
            only = _test_panoramas(given[name]) if name == "panoramas" else ()
            synthesise(given[name], out / name, settings, only=only)
    if given["synth"] is not None:
        crop_synth_pairs(given["synth"], out / "synth")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
