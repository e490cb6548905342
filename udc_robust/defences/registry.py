"""The table of defences that a config can name: how each is built, its options, and the one that sets its strength."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, create_model

from udc_robust.config_file import Number, Strict, check_config, is_path
from udc_robust.defences import own, random_transforms, transforms
from udc_robust.defences.defence import Defence
from udc_robust.defences.filters import defence as filters
from udc_robust.defences.halftone.core import Halftone
from udc_robust.defences.purifier.plan import PurifierOptions
from udc_robust.defences.transforms import require
from udc_robust.errors import UserError, unknown_name
from udc_robust.limits import MOST, require_memory
from udc_robust.networks.user_code import FAULTS, blame


@dataclass(frozen=True)
class Strength:
    """The option of a kind that trades clean quality for protection.

    Attributes:
        weakest, strongest: the range that tuning searches; damage grows from one to the other.
        whole: True where only whole numbers are allowed.
    """

    option: str
    weakest: float
    strongest: float
    whole: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of defence, or of whatever else a config builds by name.

    Attributes:
        build: the class, or a function.
        strength: what tuning to a clean PSNR varies; None where no single option does.
        files: options that name what ``build`` reads; where a config gives one, checking it does not build.
        options: the schema of the options; None: the parameters of ``build``.
    """

    name: str
    build: Callable[..., Any]
    strength: Strength | None = None
    files: tuple[str, ...] = ()
    options: type[BaseModel] | None = None

    def parameters(self) -> list[inspect.Parameter]:
        """The options as the signature states them; `inspect.Parameter.empty` is the default of one without."""
        try:
            stated = inspect.signature(self.build, eval_str=True).parameters.values()
        except NameError:  # an annotation of the user's that is only there for type checkers
            stated = inspect.signature(self.build).parameters.values()
        return [p for p in stated if p.kind is p.POSITIONAL_OR_KEYWORD]

    def schema(self) -> type[BaseModel]:
        """The options with their types; numbers may be written ``4/255``."""
        if self.options is not None:
            return self.options
        fields: dict[str, Any] = {}
        for option in self.parameters():
            untyped = option.annotation is option.empty or isinstance(option.annotation, str)
            stated: Any = Any if untyped else option.annotation
            written = {float: Number, float | None: Number | None}.get(stated, stated)
            fields[option.name] = (written, ... if option.default is option.empty else option.default)
        return create_model(self.name, __base__=Strict, **fields)


def load_purifier(**options: Any) -> Defence:
    """A diffusion purifier, of `PurifierOptions`.

    Raises:
        UserError: impossible options, or a purifier that cannot be read.
    """
    from udc_robust.defences.purifier import guidance, pipeline  # the latter imports diffusers, which is slow
    from udc_robust.defences.purifier.guide import load_guide

    asked = PurifierOptions(**options)
    loaded = pipeline.load_purifier(asked.purifier)
    guide = None if asked.agdm is None else load_guide(asked.agdm, needs_classes=asked.agdm_classes > 0)
    shift = None if guide is None else guidance.agdm(guide, asked.agdm_scale, asked.agdm_classes)
    made = loaded.purifier(
        loaded.plan_of(asked),
        correct=guidance.low_frequency_consistency(asked.low_frequency) if asked.low_frequency else None,
        shift=guidance.gdmp(asked.gdmp_eps, asked.gdmp, asked.gdmp_scale) if asked.gdmp else shift,
        guide=guide,
    )
    made.learnt_domain = loaded.domain
    return made


def load_denoiser(purifier: str, noise_level: int = 20) -> Defence:
    """The network of a purifier as a plain denoiser; the level may be any that it was trained on."""
    from udc_robust.defences.purifier import pipeline

    loaded = pipeline.load_purifier(purifier)
    purifying = loaded.purifier(loaded.plan(noise_level=noise_level))
    made = transforms.PlainDenoiser(purifying.model, purifying.schedule, noise_level, purifying.multiple)
    made.learnt_domain = loaded.domain
    return made


def load_quilting(images: str, size: int = 5, overlap: int = 2, count: int = 10_000, neighbours: int = 1) -> Defence:
    """Quilting with patches of the clean images in a folder, which must not be those that are tested."""
    from udc_robust.data.images import list_images, read_image
    from udc_robust.defences.quilting import Quilting, clean_patches

    require(2 <= size <= 256, "size", "in 2..256 pixels", size)
    require(1 <= count <= MOST, "count", f"in 1..{MOST} patches", count)
    require_memory(3 * count * size**2, f"an index of {count} patches of {size} px (`count`, `size`)")
    clean = [read_image(path).pixels for path in list_images(images)]
    return Quilting(clean_patches(clean, size, count), overlap, neighbours)


DEFENCES: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("none", transforms.Identity),
        Kind("purifier", load_purifier, files=("purifier",), options=PurifierOptions),
        # Models trained on small noise only (`max_noise_level`) often end at 150, ours do.
        Kind("denoiser", load_denoiser, Strength("noise_level", 0, 150, whole=True), files=("purifier",)),
        Kind("blur", transforms.GaussianBlur, Strength("sigma", 0.0, 3.0)),
        Kind("median", transforms.MedianBlur, Strength("mix", 0.0, 1.0)),
        Kind("jpeg", transforms.Jpeg, Strength("quality", 100, 1, whole=True)),
        Kind("bit_depth", transforms.BitDepth, Strength("levels", 256.0, 2.0)),
        Kind("tv", transforms.TotalVariation, Strength("weight", 0.0, 0.5)),
        Kind("noise", transforms.AdditiveNoise, Strength("sigma", 0.0, 0.5)),
        Kind("low_resolution", transforms.LowResolution, Strength("factor", 1.0, 8.0)),
        Kind("halftone", Halftone, Strength("levels", 256, 2, whole=True)),
        Kind("drop_tv", random_transforms.DropAndTotalVariation, Strength("drop", 0.0, 0.95)),
        # These two move the picture, so that a PSNR says nothing and cannot be tuned to.
        Kind("crop", random_transforms.RandomCrop),
        Kind("resize_pad", random_transforms.ResizeAndPad),
        Kind("quilting", load_quilting, files=("images",)),
        Kind("lq_vae", filters.load_lq_vae, files=("weights",)),
        Kind("atop", filters.load_atop, files=("weights",)),
        Kind("pixel_deflection", random_transforms.PixelDeflection, Strength("sigma", 0.0, 0.3)),
    )
}


@functools.cache
def find_kind(name: str) -> Kind:
    """A kind of the table, or the user's own as ``package.module:name`` or ``file.py:name``.

    Raises:
        UserError: an unknown name, or something that is no defence.
    """
    if ":" in name:
        return Kind(name, own.builder(name))
    if name not in DEFENCES:
        raise unknown_name("kind of defence", name, DEFENCES)
    return DEFENCES[name]


def stated_texts(kind: str, options: Mapping[str, Any]) -> list[str]:
    """All texts among a defence's options, defaults too: some of them name the models and folders that it reads."""
    stated = {p.name: p.default for p in find_kind(kind).parameters()} | dict(options)
    return [value for value in stated.values() if isinstance(value, str)]


def check_defence(kind: str, options: Mapping[str, Any], *, matched: bool = False) -> dict[str, Any]:
    """The options of a kind with their types put right, without reading any file of the user's.

    Args:
        matched: True when the strength will be tuned, so it must not be given.

    Raises:
        UserError: an unknown kind or option, a value of another type or out of its range, or no strength to tune.
    """
    chosen = find_kind(kind)
    checked = check_config(options, chosen.schema(), f"defence {kind!r}").model_dump(exclude_unset=True)
    if matched:
        if chosen.strength is None:
            tunable = ", ".join(name for name, one in DEFENCES.items() if one.strength)
            raise UserError(f"defence {kind!r} has no strength to tune: leave out `match`, or choose one of {tunable}")
        if chosen.strength.option in checked:
            raise UserError(f"defence {kind!r}: `match` tunes {chosen.strength.option}; leave out one of the two")
    if not set(chosen.files) & set(checked):
        _built(chosen, checked)
    return checked


def build_defence(kind: str, options: Mapping[str, Any]) -> Defence:
    """Build a defence; its weights, where it has any, take no gradient: only those of images are asked for.

    Raises:
        UserError: see `check_defence`; or a model or images that cannot be read.
    """
    checked = check_defence(kind, options)
    return _built(find_kind(kind), checked, load=True).requires_grad_(False).eval()


def _built(kind: Kind, options: Mapping[str, Any], *, load: bool = False) -> Defence:
    try:
        made = kind.build(**options)
        return made.load() if load else made
    except UserError as error:
        raise UserError(f"defence {kind.name!r}: {error}") from error
    except FAULTS as error:
        if not is_path(kind.name):
            raise
        raise UserError(f"defence {kind.name!r}: {blame(error)}") from error
