"""Learn one perturbation for a set of pairs, and write it for `method: fixed` of an evaluation.

Learn it on other images than those it is judged on: it is then a threat that needs nothing of the image it meets.

Example: python scripts/make_universal.py nafnet_mini --lq runs/sets/tuning/lq --gt runs/sets/tuning/gt --crop 96 \
    --eps 4/255 --out runs/uap.npy
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from udc_robust.attacks import Linf, objective, universal
from udc_robust.config_file import number
from udc_robust.errors import UserError
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks.restoration import open_images
from udc_robust.tasks.restoration_schema import DataConfig


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("restorer")
    parser.add_argument("--lq", type=Path, help="without a folder the embedded photographs are used")
    parser.add_argument("--gt", type=Path)
    parser.add_argument("--crop", type=int, default=None)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--eps", type=number, default=4 / 255)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--objective", default="mse")
    parser.add_argument("--multiplicative", action="store_true", help="PUAP: learn a factor beside the sum")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    kind = "pairs" if options.gt else "embedded"
    images = open_images(DataConfig(kind=kind, lq=options.lq, gt=options.gt, crop=options.crop, limit=options.limit))
    if len(set(images.sizes)) != 1:
        raise UserError("a universal perturbation is for images of one size: give --crop")
    restorer = load_restorer(RestorerSpec(name=options.restorer), images.domain, "cpu", 0)
    pairs = [images.load(index) for index in range(len(images.keys))]
    batches = []
    for first in range(0, len(pairs), options.batch):
        x, truth = (torch.stack(part) for part in zip(*pairs[first : first + options.batch], strict=True))
        if options.objective == "correlation":  # PUAP drives restorations away from the clean ones
            with torch.no_grad():
                truth = restorer(x)
        batches.append((x, truth))
    parts = universal(
        restorer, batches, objective(options.objective), Linf(options.eps), epochs=options.epochs,
        multiplicative=options.multiplicative,
    )  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.save(options.out, parts.numpy())
    print(f"{options.out}: for images of {parts.shape[-2]}x{parts.shape[-1]} px; use it with")
    print(f"  attacks: [{{method: fixed, name: universal, file: {options.out}, eps: {options.eps:g}}}]")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
