"""Half precision only where the processor has it: without, a step in bfloat16 takes nine times as long."""

from __future__ import annotations

import pytest
import torch

from udc_robust.training import precision as module
from udc_robust.training.precision import has_bfloat16, precision


@pytest.mark.parametrize(
    ("gpu", "bfloat16", "asked", "found"),
    [
        (False, False, "no", "no"),
        (False, False, "bf16", "no"),
        (False, True, "bf16", "bf16"),
        (False, True, "fp16", "no"),
        (True, False, "fp16", "fp16"),
        (True, False, "bf16", "bf16"),
    ],
)
def test_float32_where_the_processor_lacks_it(gpu, bfloat16, asked, found, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(module, "has_bfloat16", lambda: bfloat16)
    assert precision(asked) == found
    told = capsys.readouterr().err
    assert ("training in float32" in told and f"`mixed_precision: {asked}`" in told) == (asked != found)


def test_torch_knows_of_bfloat16() -> None:
    assert has_bfloat16() in (True, False)


def test_no_bfloat16_without_its_library(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bfloat16()
