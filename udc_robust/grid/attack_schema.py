"""The schema of an attack in a run's YAML file, as every task shares it; a task adds what its attacks climb.

Numbers may be written as people write them: ``eps: 4/255``. ``step_size: eps/4`` is relative to each eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from udc_robust.config_file import Number, is_path, may_load, told, twice_in
from udc_robust.errors import unknown_name
from udc_robust.grid.method_options import option_of
from udc_robust.limits import Count
from udc_robust.names import METHOD_NAMES, PERCEPTUAL, Access, Norm

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
        known_seed: True gives away the seeds of random defences, and only those are attacked: an upper bound, which
            has no use for ``eot``.
        jitter: deviation of Gaussian noise, in [0,1] units, that the attacker adds to what it shows a defence, so that
            its gradients are the mean over ``eot`` places near by; the attack is then judged without. This is for
            defences whose answer jumps at the smallest change.
        defences: only behind these defences (``none``: bare networks); None: behind all.
        warm: at each budget but the smallest, begin where the attack ended at the next smaller one, its change scaled
            up. Its costs at a budget are those on top of the smaller ones'.
        start: of a query method with sources, the transfer of the run, by its name, that it begins at instead of its
            own PGD on the sources: their gradients are paid for there.
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
    warm: bool = False
    start: str | None = None
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
        if self.warm and not chosen.warm:
            from udc_robust.attacks import METHODS

            able = ", ".join(name for name, method in METHODS.items() if method.warm)
            raise ValueError(f"attack {self.method!r} begins where it does: leave out `warm`; {able} can be warm")
        if self.jitter and (self.known_seed or self.access == ["blind"] or self.is_transfer):
            raise ValueError("`jitter` is for gradients through a defence: leave out known_seed and access blind")
        if self.start is not None and (self.is_transfer or not self.sources):
            raise ValueError(f"`start` is for query attacks with `sources`: leave it out of attack {self.method!r}")
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
        if twice := twice_in(names):
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
