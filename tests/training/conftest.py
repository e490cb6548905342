"""A tiny paired set, a tiny purifier, and one thread: threads that wait for each other made tiny networks slower."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from udc_robust.data.images import write_image
from udc_robust.restorers.zoo import Restorer


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sets(tmp_path):
    """Eight pairs: smooth scenes, and the same scenes darkened and shifted in colour."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 8), ("validation", 2)):
        for i in range(count):
            scene = nn.functional.interpolate(torch.rand(1, 3, 6, 6, generator=generator), (32, 40), mode="bilinear")[0]
            write_image(tmp_path / part / "gt" / f"{i}.png", scene)
            write_image(tmp_path / part / "lq" / f"{i}.png", scene * torch.tensor([0.7, 0.8, 0.6]).view(3, 1, 1))
    return tmp_path


@pytest.fixture
def large_pairs(tmp_path):
    """A folder with one pair, which is larger than a tile of 64 px."""
    for part in ("lq", "gt"):
        scene = torch.rand(3, 96, 80, generator=torch.Generator().manual_seed(1))
        write_image(tmp_path / "large" / part / "0.png", scene)
    return tmp_path / "large"


@pytest.fixture
def shapes_seen(monkeypatch):
    """Heights and widths of the images that restorers' networks get."""
    seen, original = set(), Restorer._padded
    monkeypatch.setattr(Restorer, "_padded", lambda self, x: seen.add(tuple(x.shape[-2:])) or original(self, x))
    return seen


@pytest.fixture(scope="session")
def tiny_purifier(tmp_path_factory):
    """Folder of a purifier with random weights that knows noise levels up to 60."""
    from diffusers import DDPMScheduler, UNet2DModel

    from udc_robust.defences.purifier.pipeline import PurificationPipeline

    torch.manual_seed(0)
    unet = UNet2DModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("purifier") / "tiny"
    PurificationPipeline(unet, DDPMScheduler(clip_sample=False), max_noise_level=60).save_pretrained(folder)
    (folder / "facts.json").write_text('{"domain": "srgb"}')
    return folder
