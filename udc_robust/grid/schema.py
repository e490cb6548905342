"""The schema of a run's YAML file, as every task shares it; a task adds its data and networks.

Numbers may be written as people write them: ``eps: 4/255``. ``step_size: eps/4`` is relative to each eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from udc_robust.config_file import FileName, Number, Strict, as_lists, is_path, may_load, told
from udc_robust.errors import unknown_name
from udc_robust.grid.method_options import option_of
from udc_robust.grid.metric_config import MetricConfig
from udc_robust.grid.presets import blocks, with_preset
from udc_robust.limits import Count, Device, Seed
from udc_robust.names import METHOD_NAMES, PERCEPTUAL, Access, Norm
from udc_robust.networks.short_names import named_by_file

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
            ``transfer`` stands alone: the attack is made on ``sources`` and judged on every victim.
        sources: networks that the attacker has instead of the victim: names of the run's, or blocks like theirs.
            Several are an ensemble, whose mean objective is climbed. A victim's own network is left out of them.
            Query methods that can use sources begin where PGD on them ends (``square``, ``simba``, ``nes``), or take
            their gradient for a prior too (``prgf``).
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
    sources: list[Any] | None = Field(default=None, min_length=1)
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
            keys = ("eps", "access", "defences", "sources")
            values = {**values, **{key: [values[key]] for key in keys if not isinstance(values.get(key), list | None)}}
            if values.get("sources"):
                values["sources"] = [{"name": one} if isinstance(one, str) else one for one in values["sources"]]
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
        if self.norm in PERCEPTUAL and self.eps is None:
            raise ValueError(
                f"norm {self.norm} has a scale of its own: give attack {self.method!r} an eps, such as 0.2"
            )
        if self.jitter and (self.known_seed or self.access == ["blind"] or self.is_transfer):
            raise ValueError("`jitter` is for gradients through a defence: leave out known_seed and access blind")
        self._check_sources(chosen)
        self.options_at(1.0)
        return self

    def _check_sources(self, chosen: Method) -> None:
        transfer, what = self.is_transfer, f"attack {self.method!r}"
        if transfer and chosen.access != "gradient":
            raise ValueError(f"access transfer is for methods that follow a gradient: leave it out of {what}")
        if transfer and (len(self.access or []) > 1 or self.known_seed):
            raise ValueError(
                f"`access: transfer` stands alone, without known_seed: write {what} again for other accesses"
            )
        if not self.sources and (transfer or chosen.sources == "prior"):
            raise ValueError(f"{what} needs `sources`: names of networks, or blocks like those under test")
        if self.sources and chosen.access == "gradient" and not transfer:
            raise ValueError(f"{what} has `sources`: add `access: transfer`, or leave them out")
        if self.sources and chosen.access != "gradient" and not chosen.sources:
            from udc_robust.attacks import METHODS

            able = ", ".join(name for name, method in METHODS.items() if method.sources)
            raise ValueError(f"{what} makes nothing of `sources`: leave them out; {able} do")
        names = [source.name for source in self.sources or []]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{what} has the source {twice!r} twice")

    @property
    def is_transfer(self) -> bool:
        """Whether it is made without the victim."""
        return "transfer" in (self.access or ())

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
            key: option_of(f"{key} of attack {self.method!r}", value, defaults[key], eps, signed=key == "confidence")
            for key, value in (self.model_extra or {}).items()
        }

    @property
    def label(self) -> str:
        """Name of the attack in tables."""
        own = self.method if self.method in METHOD_NAMES else self.method.rpartition(":")[2]
        extra = "" if self.objective in self.plain_objectives else f"-{self.objective.rpartition(':')[2]}"
        made_on = "" if not self.sources else f" from {'+'.join(source.name for source in self.sources)}"
        return self.name or f"{own}{extra}{made_on}"


class RunConfig(Strict):
    """One run: data x networks x defences x attacks x eps.

    Attributes:
        draws: answers of a random defence that are judged.
        preset: attacks that stand before ``attacks`` under a name to quote, see `presets`; without either: standard.
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
    preset: str | None = None
    attacks: list[Any] = Field(min_length=1)
    eps: list[Eps] = Field(min_length=1)
    metrics: list[MetricConfig] = Field(default_factory=list)
    round_8_bit: bool = True
    save_images: bool = True
    gallery: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """``restorers: [nafnet_mini]`` and a single block of data are fine, and a preset stands for its attacks."""
        values = as_lists(values, {**RunConfig.short_forms, **cls.short_forms, "metrics": "metric"})
        if not isinstance(values, Mapping):
            return values
        blocks = [named_by_file(block) for block in values.get(cls.network_key) or []]
        networks = [str(block["name"]) for block in blocks if isinstance(block, Mapping) and "name" in block]
        return told(lambda: with_preset(values, cls.model_fields["task"].default, networks))

    @model_validator(mode="after")
    def _preset_as_it_is(self) -> RunConfig:
        """Whoever quotes a preset ran its attacks, and not others of their names."""
        if self.preset is not None:
            mine = {attack.name: attack for attack in self.attacks}
            for block in blocks(self.preset, self.task, [network.name for network in self.networks]):
                theirs = type(self.attacks[0]).model_validate(block)
                if mine[theirs.name] != theirs:
                    raise ValueError(f"preset {self.preset} has an attack {theirs.name!r}: give yours another name")
        return self

    @property
    def networks(self) -> Sequence[Any]:
        """The blocks of the networks under test."""
        return getattr(self, self.network_key)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self._check_distinct()
        self._check_names()
        _ = self.source_blocks
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

    @property
    def source_blocks(self) -> list[Any]:
        """The blocks of sources that are no networks under test, each once.

        Raises:
            ValueError: two networks of one name.
        """
        known = {network.name: network for network in self.networks}
        sources = [source for attack in self.attacks for source in attack.sources or []]
        sources.sort(key=lambda source: source.model_dump(exclude_none=True).keys() == {"name"})
        for source in sources:  # a name alone means the network that somebody else describes
            there = known.setdefault(source.name, source)
            if there != source and source.model_dump(exclude_none=True).keys() != {"name"}:
                raise ValueError(f"two networks are called {source.name!r}, one of them a source: rename one")
        return list(known.values())[len(self.networks) :]
