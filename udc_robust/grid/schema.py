"""The schema of a run's YAML file, as every task shares it; a task adds its data and networks.

Numbers may be written as people write them: ``eps: 4/255``. ``step_size: eps/4`` is relative to each eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from udc_robust.config_file import FileName, Number, Strict, as_lists, is_path, may_load, number, told
from udc_robust.errors import unknown_name
from udc_robust.limits import MOST, Count, Device, Seed
from udc_robust.names import METHOD_NAMES, Access, Norm

if TYPE_CHECKING:
    from udc_robust.attacks import Method
    from udc_robust.metrics import Metric


def _budget(eps: float) -> float:
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be finite and 0 or more, not {eps} (minimum-norm attacks take none)")
    return eps


Eps = Annotated[Number, AfterValidator(_budget)]


class AttackConfig(BaseModel):
    """An attack at one or more budgets; further keys are the method's own options.

    Attributes:
        method: a name of `METHOD_NAMES`, or one's own function as ``package.module:function`` or ``file.py:function``.
        eps: budgets in the units of the data's domain, Linf per value, L2 over the whole image; None: the run's list.
        objective: what the attacker climbs; a task says which there are, and one's own is named as a method is.
        name: label in tables; None: the method's name (with the objective where it is not the usual one).
        access: what a gradient attack knows of a defence: ``blind`` (nothing: it attacks the bare network), ``bpda``
            (the identity's gradient), ``surrogate`` (a shorter chain's or a stand-in's), ``adaptive`` (the best there
            is). None: adaptive. Those that a defence does not have are left out, and bare networks know none of it.
        eot: answers of a random defence that are averaged for each gradient.
        known_seed: True gives away the seeds of random defences, and only those are attacked: an upper bound.
        jitter: deviation of Gaussian noise, in [0,1] units, that the attacker adds to what it shows a defence, so that
            its gradients are the mean over ``eot`` places near by; the attack is then judged without. This is for
            defences whose answer jumps at the smallest change.
        defences: only behind these defences (``none``: bare networks); None: behind all.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    plain_objectives: ClassVar[tuple[str, ...]] = ()

    method: str
    access: list[Access] | None = None
    eot: Count = 1
    known_seed: bool = False
    jitter: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    defences: list[str] | None = None
    norm: Norm = "linf"
    eps: list[Eps] | None = None
    objective: str
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            single = (key for key in ("eps", "access", "defences") if not isinstance(values.get(key), list | None))
            values = {**values, **{key: [values[key]] for key in single}}
        return values

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> AttackConfig:
        if not is_path(self.method) and self.method not in METHOD_NAMES:
            raise ValueError(str(unknown_name("attack method", self.method, METHOD_NAMES)))
        if not may_load(self.method, info):
            return self
        chosen = told(lambda: self.chosen)
        for key in self.model_extra or {}:
            if key not in chosen.options():
                known = [*chosen.options(), *type(self).model_fields]
                raise ValueError(str(unknown_name(f"key of attack {self.method!r}", key, known)))
        if self.norm not in chosen.norms:
            raise ValueError(f"attack {self.method!r} is defined for norm {' or '.join(chosen.norms)}, not {self.norm}")
        if self.jitter and (self.known_seed or self.access == ["blind"]):
            raise ValueError("`jitter` is for gradients through a defence: leave out known_seed and access blind")
        self.options_at(1.0)
        return self

    def aims_at(self, metric: Metric) -> bool:
        """Whether it climbs this figure, or one that ranks alike; only such attacks compare."""
        return True

    @property
    def climbs(self) -> tuple[str, ...]:
        """The learned figures, by name, whose networks it follows."""
        return ()

    @property
    def chosen(self) -> Method:
        """The method itself."""
        from udc_robust.grid.named import find_method

        return find_method(self.method)

    def options_at(self, eps: float) -> dict[str, Any]:
        """The method's options at one budget, with ``eps`` known to their formulas and types as the defaults have."""
        defaults = self.chosen.options()
        return {
            key: _option(f"{key} of attack {self.method!r}", value, defaults[key], eps, signed=key == "confidence")
            for key, value in (self.model_extra or {}).items()
        }

    @property
    def label(self) -> str:
        """Name of the attack in tables."""
        own = self.method if self.method in METHOD_NAMES else self.method.rpartition(":")[2]
        extra = "" if self.objective in self.plain_objectives else f"-{self.objective.rpartition(':')[2]}"
        return self.name or f"{own}{extra}"


def _option(what: str, value: Any, default: Any, eps: float, *, signed: bool) -> Any:
    """One option of a method, of the type of its default; without a default it is what was written."""
    if isinstance(default, str) or default is Ellipsis:
        return value
    if isinstance(default, tuple):
        return _whole_numbers(what, value)
    found = number(value, eps=eps)
    whole = isinstance(default, int) and not isinstance(default, bool)
    if isinstance(default, bool) != isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"{what} must be like {default!r}, not {value!r}")
    if not math.isfinite(found):
        raise ValueError(f"{what} must be finite, not {value!r}")
    if whole and (found != int(found) or not 1 <= found <= MOST):
        raise ValueError(f"{what} must be a whole number from 1 to {MOST:,}, not {value!r}")
    if isinstance(default, float | None) and not (found > 0 or found == default == 0 or signed):
        raise ValueError(f"{what} must be positive, not {value!r}")
    return int(found) if whole else found


def _whole_numbers(what: str, value: Any) -> tuple[int, ...]:
    """An option that is a list of pixels."""
    if not isinstance(value, list | tuple) or any(type(part) is not int or not 0 <= part <= MOST for part in value):
        raise ValueError(f"{what} must be a list of whole numbers of 0 or more, not {value!r}")
    return tuple(value)


class MetricConfig(Strict):
    """A figure of one's own, a column everywhere: a function of answers and targets, one number an image.

    Attributes:
        metric: ``package.module:name`` or ``file.py:name`` of a function, or of a `Metric`, which tells the rest.
        name: of the column; None: the function's.
    """

    metric: str
    name: str | None = None
    higher_is_better: bool = True
    digits: Annotated[int, Field(ge=0, le=9)] = 3

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> MetricConfig:
        if may_load(self.metric, info):
            told(self.found)
        return self

    def found(self) -> Metric:
        """The record."""
        from udc_robust.grid.named import find_metric

        return find_metric(self.metric, self.name, self.higher_is_better, self.digits)


class RunConfig(Strict):
    """One run: data x networks x defences x attacks x eps.

    Attributes:
        draws: answers of a random defence that are judged.
        validation: images on which strengths of defences with ``match`` are tuned; never those of ``data``.
        metrics: figures beside the task's own.
        save_images: keep all attacked images.
        gallery: images, evenly over each data block, whose pictures are kept for the report.
    """

    network_key: ClassVar[str] = ""
    short_forms: ClassVar[Mapping[str, str | None]] = {"defences": "kind", "attacks": "method", "eps": None}

    task: str
    name: FileName
    out: Path | None = None
    seed: Seed = 0
    device: Device = "cpu"
    batch_size: Count
    data: list[Any] = Field(min_length=1)
    validation: Any = None
    defences: list[Any] = Field(default_factory=lambda: ["none"], min_length=1, validate_default=True)
    draws: Count = 8
    attacks: list[Any] = Field(min_length=1)
    eps: list[Eps] = Field(min_length=1)
    metrics: list[MetricConfig] = Field(default_factory=list)
    round_8_bit: bool = True
    save_images: bool = True
    gallery: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """``restorers: [nafnet_mini]`` and a single block of data are fine."""
        return as_lists(values, {**RunConfig.short_forms, **cls.short_forms, "metrics": "metric"})

    @property
    def networks(self) -> Sequence[Any]:
        """The blocks of the networks under test."""
        return getattr(self, self.network_key)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self._check_distinct()
        self._check_names()
        linear = any(getattr(block, "domain", None) == "linear" for block in self.data)
        for attack in self.attacks:
            for eps in self.eps if attack.eps is None else attack.eps:
                if attack.norm == "linf" and eps > 1 and not linear:
                    raise ValueError(f"eps {eps:g} is over the range of an image [0,1]: did you mean {eps:g}/255?")
        return self

    def _check_distinct(self) -> None:
        """Labels tell blocks apart."""
        found = {"data": [block.label for block in self.data if block.label is not None]}
        found[self.network_key.removesuffix("s")] = [network.name for network in self.networks]
        found["defence"] = [defence.label for defence in self.defences]
        found["attack"] = [f"{attack.label} ({attack.norm})" for attack in self.attacks]
        found["metric"] = [block.name or block.metric for block in self.metrics]
        for what, labels in found.items():
            if twice := next((label for label in labels if labels.count(label) > 1), None):
                raise ValueError(f"two {what} blocks are called {twice!r}: give them different names")

    def _check_names(self) -> None:
        """Blocks that name other blocks must find them."""
        defences, networks = [d.label for d in self.defences], [n.name for n in self.networks]
        unmatched, one = [d.label for d in self.defences if d.match is None], self.network_key.removesuffix("s")
        named = [(f"defence of attack {a.label!r}", name, defences) for a in self.attacks for name in a.defences or []]
        for defence in self.defences:
            named += [(f"{one} of defence {defence.label!r}", name, networks) for name in defence.networks or []]
            if defence.match is not None:
                named.append((f"match of defence {defence.label!r}", defence.match, unmatched))
                if self.validation is None:
                    raise ValueError(
                        f"defence {defence.label!r} has `match`: give the `validation` images to tune it on"
                    )
        for what, name, known in named:
            if name not in known:
                raise ValueError(str(unknown_name(what, name, known)))
