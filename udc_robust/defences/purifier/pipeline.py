"""The purifier as a diffusers pipeline: load, save, swap its parts, and purify images without gradients.

Importing this module imports diffusers, which is slow: import it where it is used. Attacks take the differentiable
`Purifier` of `PurificationPipeline.purifier`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from udc_robust.defences.purifier.core import NoisePredictor, Purifier, noise_shape
from udc_robust.defences.purifier.guidance import Correction, Shift
from udc_robust.defences.purifier.plan import Plan, PurifyOptions
from udc_robust.defences.purifier.schedule import NoiseSchedule
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import shipped
from udc_robust.limits import require_memory
from udc_robust.networks.memory_guard import MemoryGuard
from udc_robust.networks.tiles import count_tiles

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
OUTPUT_TYPES = ("pil", "np", "pt")
Callback = Callable[[Any, int, int, dict[str, Tensor]], Any]


@dataclass
class PurificationPipelineOutput(BaseOutput):
    """Purified images, and what they cost.

    Attributes:
        images: a list of PIL images, an array (B,H,W,3) or a tensor (B,3,H,W), in [0,1] where they are numbers.
        nfe: model calls for each image (and tile).
        noise_level: the timestep up to which they were noised.
    """

    images: Any
    nfe: int
    noise_level: int


class PurificationPipeline(DiffusionPipeline):
    """Noise an image to a small level and let an unconditional diffusion model take the noise away.

    Args:
        unet: predicts noise in pixels of [-1,1]; as many channels out as in.
        scheduler: kept for its ``alphas_cumprod``; it never steps.
        noise_level: the level of a call that names none.
        max_noise_level: the highest timestep the model was trained on; None: all of the scheduler's.

    Attributes:
        domain: colour domain of the images that it learnt, where its folder says so.
    """

    model_cpu_offload_seq = "unet"  # type: ignore[assignment]
    unet: UNet2DModel
    domain: str | None = None

    def __init__(
        self, unet: UNet2DModel, scheduler: DDPMScheduler, noise_level: int = 20, max_noise_level: int | None = None
    ) -> None:
        super().__init__()
        if unet.config["out_channels"] != unet.config["in_channels"]:
            raise UserError(
                f"the U-Net has {unet.config['in_channels']} channels in and {unet.config['out_channels']} out: "
                "a purifier needs a model that predicts noise alone"
            )
        if scheduler.config["prediction_type"] != "epsilon":
            raise UserError(f"the model predicts {scheduler.config['prediction_type']!r}: a purifier needs 'epsilon'")
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(noise_level=noise_level, max_noise_level=max_noise_level)
        self.schedule = NoiseSchedule.of(scheduler.alphas_cumprod.tolist())
        self.size_multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)
        self.image_processor = VaeImageProcessor(do_resize=False, do_normalize=False, do_convert_rgb=True)

    def plan(self, **options: Any) -> Plan:
        """Check `PurifyOptions` against what the model can do.

        Raises:
            UserError: contradicting or impossible numbers, or a level that the model was not trained on.
        """
        return self.plan_of(PurifyOptions.of(options))

    def plan_of(self, options: PurifyOptions) -> Plan:
        """The same for options that were checked already."""
        plan = options.plan(self.schedule, self.config["noise_level"])
        level = plan.noise_level
        highest = self.config["max_noise_level"]
        if highest is not None and level > highest:
            raise UserError(
                f"noise_level {level} (sigma {self.schedule.sigma(level):.3f}) is above {highest} "
                f"(sigma {self.schedule.sigma(highest):.3f}), the highest this model was trained on: lower it"
            )
        return plan

    def purifier(
        self, plan: Plan, *, tile: int = 0, overlap: int = 16, correct: Correction | None = None,
        shift: Shift | None = None, guide: nn.Module | None = None,
    ) -> Purifier:  # fmt: skip
        """The differentiable core over this pipeline's very weights: what an adaptive attack goes through.

        Raises:
            UserError: impossible tiles.
        """
        return Purifier(
            NoisePredictor(self.unet), self.schedule, plan, multiple=self.size_multiple, tile=tile, overlap=overlap,
            correct=correct, shift=shift, guide=guide,
        )  # fmt: skip

    def prepare_images(self, images: Any) -> Tensor:
        """Images of one size as ``(B,C,H,W)`` in [0,1] on the pipeline's device.

        Args:
            images: a tensor (C,H,W) or (B,C,H,W), an array (H,W,C) or (B,H,W,C), a PIL image or a list of them.

        Raises:
            UserError: another shape, channel count or range, sizes that differ, or values that are not finite.
        """
        if isinstance(images, Tensor):
            x = images[None] if images.ndim == 3 else images
        else:
            listed = images if isinstance(images, list) else [images]
            sizes = {getattr(image, "size", None) for image in listed if not hasattr(image, "shape")}
            if len(sizes) > 1:
                raise UserError(f"images of a batch must have one size, not {sizes}: purify them one by one")
            x = self.image_processor.preprocess(images[None] if getattr(images, "ndim", 4) == 3 else images)
        if x.ndim != 4 or 0 in x.shape or x.shape[1] != self.unet.config["in_channels"]:
            expected = f"(B,{self.unet.config['in_channels']},H,W)"
            raise UserError(f"this purifier needs images of shape {expected}, not {tuple(x.shape)}")
        low, high = float(x.min()), float(x.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):  # NaN fails every comparison
            raise UserError(f"images must be in [0,1], not in [{low:g}, {high:g}]: tone-map linear light first")
        return x.to(self._execution_device, self.unet.dtype)

    def prepare_noise(
        self, x: Tensor, plan: Plan, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Tensor:
        """Noise for `Purifier`; with a generator for each image, an image's noise does not depend on its batch.

        Raises:
            UserError: a list of generators of another length than the batch.
        """
        if isinstance(generator, list) and len(generator) != len(x):
            raise UserError(f"{len(x)} images need {len(x)} generators, or a single one, not {len(generator)}")
        shape = noise_shape(x, plan, self.size_multiple)
        require_memory(3 * math.prod(shape), f"noise for {plan.samples} samples of {plan.steps} steps")
        return randn_tensor(shape, generator=generator, device=x.device, dtype=x.dtype)

    @torch.no_grad()
    def __call__(
        self,
        images: Any,
        *,
        generator: torch.Generator | list[torch.Generator] | None = None,
        tile: int = 0,
        overlap: int = 16,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        on_call: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> PurificationPipelineOutput | tuple[Any, ...]:
        """Purify images of any size.

        Args:
            images: see `prepare_images`.
            generator: one, or a list of one for each image.
            tile, overlap: tiles with one shared noise field, see `Purifier`; 0 takes whole images.
            output_type: ``pil``, ``np`` or ``pt``.
            return_dict: False gives a tuple.
            on_call: called after each model call with its number, from 1, and that of all.
            callback_on_step_end: called as ``(pipeline, number from 0, timestep, {"x_t": tensor})`` after each call.
            options: those of `PurifyOptions`: how much noise, and how it is taken away.

        Raises:
            UserError: anything above that does not fit.
        """
        if output_type not in OUTPUT_TYPES:
            raise unknown_name("output_type", output_type, OUTPUT_TYPES)
        plan = self.plan(**options)
        x = self.prepare_images(images)
        noise = self.prepare_noise(x, plan, generator)
        purifier = self.purifier(plan, tile=tile, overlap=overlap)
        height, width = noise.shape[-2:]
        tiles = count_tiles(height, width, tile, overlap) if tile else 1
        numbers, calls = itertools.count(), plan.steps * tiles
        with self.progress_bar(total=calls) as bar:

            def after_model_call(module: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
                bar.update()
                number = next(numbers)
                if on_call is not None:
                    on_call(number + 1, calls)
                if callback_on_step_end is not None:
                    x_t, t = arguments
                    callback_on_step_end(self, number, t, {"x_t": x_t})

            # The predictor was made for this call, so the hook goes with it.
            assert isinstance(purifier.model, nn.Module)
            purifier.model.register_forward_hook(after_model_call)
            y = purifier(x, noise).clamp(0, 1)
        self.maybe_free_model_hooks()
        purified = self.image_processor.postprocess(y, output_type, [False] * len(y))
        if not return_dict:
            return purified, plan.nfe, plan.noise_level
        return PurificationPipelineOutput(images=purified, nfe=plan.nfe, noise_level=plan.noise_level)


def shipped_purifiers() -> dict[str, Path]:
    """Names and folders of the purifiers that come with the package."""
    return {path.parent.name: path.parent for path in sorted(shipped("checkpoints").glob("*/model_index.json"))}


def purifier_folder(name: str | Path) -> Path:
    """Folder of a shipped purifier, or the folder itself.

    Raises:
        UserError: no such folder.
    """
    folder = shipped_purifiers().get(str(name), Path(name))
    if not folder.is_dir():
        raise unknown_name("purifier", str(name), [*shipped_purifiers(), "a folder of a saved pipeline"])
    return folder


def load_purifier(name: str | Path) -> PurificationPipeline:
    """Load a shipped purifier by name, or a folder that ``save_pretrained`` or a training wrote.

    Only safetensors are read, and nothing is downloaded.

    Raises:
        UserError: no such folder, files missing (they are named), or files that cannot be read.
    """
    folder = purifier_folder(name)
    _require(folder, ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json", WEIGHTS])
    try:
        kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("unet")
        if kind != ["diffusers", "UNet2DModel"]:
            raise UserError(f"{folder} holds a U-Net of kind {kind}: a purifier needs diffusers' UNet2DModel")
        with no_progress_bars(), MemoryGuard(f"purifier {folder}", "cpu"):
            pipeline = PurificationPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except UserError:
        raise
    except Exception as error:  # damaged configs and weights end in many types
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{folder} cannot be loaded ({reason}): save or copy the pipeline again") from error
    if bad := [name for name, tensor in pipeline.unet.state_dict().items() if not tensor.isfinite().all()]:
        raise UserError(f"{folder / WEIGHTS} has NaN or infinite weights in {', '.join(bad[:3])}: copy it again")
    pipeline.domain = _learnt_domain(folder)
    return pipeline


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Silence diffusers while it loads: a bar over two files in a second tells nobody anything."""
    before = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            diffusers_logging.enable_progress_bar()


def _learnt_domain(folder: Path) -> str | None:
    """What the facts of a training say; other folders have none."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts.get("domain") if isinstance(facts, dict) else None


def _require(folder: Path, files: Sequence[str]) -> None:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} is no saved purifier: {', '.join(missing)} missing; save or copy it again")
