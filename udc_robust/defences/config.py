"""The block of a config that says what stands before the networks. Reading it loads nothing heavy."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from udc_robust.config_file import may_load, told
from udc_robust.names import NONE


class DefenceConfig(BaseModel):
    """What stands before the networks; further keys are the kind's own options.

    Attributes:
        kind: a name of the table of defences, or one's own as ``package.module:name`` or ``file.py:name``; ``none``:
            the bare network.
        name: label in tables; None: the kind.
        role: ``control`` for a cheap rival, which the report shows beside the defences under study.
        match: another defence's name: this one's strength is tuned, for each network, to the same clean quality on the
            run's ``validation`` images.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    network_key: ClassVar[str] = ""

    kind: str
    name: str | None = None
    role: Literal["defence", "control"] = "defence"
    match: str | None = None

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> DefenceConfig:
        for key in ("restorers", "classifiers"):
            if key in self.options:
                raise ValueError(f"`{key}` are those of another task: write `{self.network_key}`")
        plain = self.kind == NONE and not self.options and self.match is None
        if may_load(self.kind, info) and not plain:
            from udc_robust.defences.registry import check_defence

            told(lambda: check_defence(self.kind, self.options, matched=self.match is not None))
        return self

    @property
    def networks(self) -> list[str] | None:
        """Only before these; None: before all."""
        return getattr(self, self.network_key)

    @property
    def options(self) -> dict[str, Any]:
        """The kind's own options."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """Name of the defence in tables."""
        return self.name or self.kind.rpartition(":")[2]
