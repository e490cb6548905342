"""The block of a config that says which detector looks at the images. Reading it loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from udc_robust.config_file import may_load, told
from udc_robust.errors import UserError
from udc_robust.names import NONE


class DetectorBlock(BaseModel):
    """A detector; further keys are the kind's own options.

    Attributes:
        kind: ``explanation``, ``boundary`` (both of classifiers), ``autoencoder``, ``residual``; ``none``: nothing
            watches, which is what the others are compared with.
        name: label in tables; None: the kind.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    name: str

    @model_validator(mode="before")
    @classmethod
    def _named_by_kind(cls, values: Any) -> Any:
        return {"name": values.get("kind"), **values} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> DetectorBlock:
        if may_load(self.kind, info) and not (self.kind == NONE and not self.options):
            from udc_robust.detectors.registry import check_detector

            told(lambda: check_detector(self.kind, self.options, self.beside))
        return self

    @property
    def beside(self) -> Literal["classifier", "restorer"]:
        """What kind of network it watches."""
        return "restorer"

    @property
    def options(self) -> dict[str, Any]:
        """The kind's own options."""
        return dict(self.model_extra or {})

    @property
    def defences(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and options of the defence that it is made of, if it is made of one."""
        return [kind_and_options(self.options["defence"])] if "defence" in self.options else []


def kind_and_options(defence: Any) -> tuple[str, dict[str, Any]]:
    """A defence as a detector's option says it: a kind, or a block.

    Raises:
        UserError: neither.
    """
    block = {"kind": defence} if isinstance(defence, str) else defence
    if not isinstance(block, Mapping) or not isinstance(block.get("kind"), str):
        raise UserError(f"defence must be a block such as {{kind: blur, sigma: 1}}, not {defence}")
    return block["kind"], {key: value for key, value in block.items() if key != "kind"}
