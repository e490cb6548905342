"""What a config names is part of what was run, also where it ships."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from udc_robust.files import sha256_of, shipped
from udc_robust.grid.identity import input_digests


class Named(BaseModel):
    """A config that names one thing."""

    weights: str


@pytest.mark.parametrize(
    "file", ["nafnet_mini", "classifiers/digits_mini", "filters/atop_mini", "channels/jammer_mini"]
)
def test_checkpoints_that_ship_are_inputs_by_their_names(file) -> None:
    name = file.rpartition("/")[2]
    digest = sha256_of(shipped("checkpoints") / f"{file}.safetensors")
    assert input_digests(Named(weights=name)) == {name: digest[:16]}


def test_a_shipped_folder_is_an_input_file_by_file() -> None:
    found = input_digests(Named(weights="purifier_mini"))
    assert "purifier_mini/unet/config.json" in found and all(name.startswith("purifier_mini/") for name in found)
    assert input_digests(Named(weights="no_such_thing")) == {}
