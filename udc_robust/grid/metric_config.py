"""The block of a config that names a figure of one's own. Reading it loads nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationInfo, model_validator

from udc_robust.config_file import Strict, may_load, told

if TYPE_CHECKING:
    from udc_robust.metrics import Metric


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
