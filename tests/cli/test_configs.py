"""Shipped configs by name: the one that the verb is for, never another of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

from udc_robust.cli import configs
from udc_robust.cli.configs import SCHEMAS, find_config, list_configs
from udc_robust.cli.options import config_path
from udc_robust.errors import UserError
from udc_robust.files import shipped


@pytest.fixture(autouse=True)
def _clean_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def _found(given: str, schema: str) -> str:
    return find_config(Path(given), schema)[0].relative_to(shipped("configs")).as_posix()


@pytest.mark.parametrize("config", list_configs(), ids=lambda config: config.name)
def test_every_config_is_found_by_name_and_by_place(config) -> None:
    folder, _, name = config.name.rpartition("/")
    assert folder == SCHEMAS[config.schema][0]
    for given in (name, f"{name}.yaml", config.name, f"configs/{config.name}.yaml"):
        assert _found(given, config.schema) == f"{config.name}.yaml"
        assert find_config(Path(given), config.schema)[1] is None


@pytest.mark.parametrize(
    "old, schema, new",
    [
        ("configs/quickstart.yaml", "evaluate", "evaluate/quickstart"),
        ("configs/halftone_study.yaml", "evaluate", "evaluate/halftone_study"),
        ("train/nafnet_mini", "train restorer", "train/restorer/nafnet_mini"),
        ("/some/where/configs/train/bnudc_mini.yaml", "train restorer", "train/restorer/bnudc_mini"),
        ("diffusion/purifier_mini", "train diffusion", "train/diffusion/purifier_mini"),
        ("classifiers/hybrid", "train classifier", "train/classifier/hybrid"),
    ],
)
def test_old_places_are_told_the_new_ones(old, schema, new, capsys) -> None:
    path = config_path(Path(old), schema)
    assert path == shipped("configs") / f"{new}.yaml"
    told = capsys.readouterr()
    assert told.out == "" and told.err == f"udc-robust: the config {old} is now called {new}\n"


def test_a_file_of_the_user_comes_first() -> None:
    Path("quickstart.yaml").write_text("name: mine")
    assert find_config(Path("quickstart.yaml"), "evaluate") == (Path("quickstart.yaml"), None)
    assert _found("quickstart", "evaluate") == "evaluate/quickstart.yaml"


def test_of_two_with_one_name_the_verbs_own_is_taken(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(configs, "shipped", lambda folder: tmp_path)
    for folder, schema in (("train/restorer", "train restorer"), ("train/diffusion", "train diffusion")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mini.yaml").write_text(f"# One of two.\n# schema: {schema}\n")
    assert find_config(Path("mini"), "train diffusion")[0] == tmp_path / "train/diffusion/mini.yaml"
    assert find_config(Path("mini"), "train restorer")[0] == tmp_path / "train/restorer/mini.yaml"
    with pytest.raises(UserError) as caught:
        find_config(Path("mini"), "finetune")
    assert "train/restorer/mini (schema: train restorer), train/diffusion/mini (schema: train diff" in str(caught.value)


@pytest.mark.parametrize(
    "given, schema, message",
    [
        ("quikstart", "evaluate", "no config at quikstart: .* did you mean 'quickstart'"),
        (
            "nowhere.yaml",
            "evaluate",
            "no config at nowhere.yaml: .*known are captures, classical, classifiers_quickstart, c",
        ),
        ("elsewhere/quickstart.yaml", "evaluate", "no config at elsewhere/.*there is evaluate/quickstart"),
        (
            "nafnet_mini",
            "evaluate",
            r"for `udc-robust evaluate`.*train/restorer/nafnet_mini \(schema: train restorer\)",
        ),
        (
            "train/nafnet_mini",
            "finetune",
            "for `udc-robust finetune`: of this name there is train/restorer/nafnet_mini",
        ),
        ("diffusion/purifer_mini", "train diffusion", "did you mean 'purifier_mini'"),
    ],
)
def test_what_is_not_there_is_told(given, schema, message) -> None:
    with pytest.raises(UserError, match=message):
        find_config(Path(given), schema)
