"""Configs: what people write is understood, and what is wrong is named with its mend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udc_robust.config_file import check_config, load_config, number, read_values
from udc_robust.errors import UserError
from udc_robust.files import shipped
from udc_robust.tasks import load_run_config
from udc_robust.tasks.restoration_schema import RestorationConfig, RestorerConfig
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.config import DiffusionConfig, TrainConfig
from udc_robust.training.filter_config import FilterConfig
from udc_robust.training.finetune_config import FinetuneConfig

GOOD = {"restorers": ["nafnet_mini"], "attacks": ["fgsm", {"method": "pgd", "eps": "4/255", "step_size": "eps/4"}]}


def test_short_forms_and_fractions() -> None:
    config = check_config(GOOD, RestorationConfig, "x.yaml")
    assert config.restorers[0].name == "nafnet_mini" and config.data[0].kind == "embedded"
    assert config.attacks[1].eps == [pytest.approx(4 / 255)]
    assert config.attacks[1].options_at(0.02) == {"step_size": pytest.approx(0.005)}
    assert check_config({**GOOD, "published": None}, RestorationConfig, "x.yaml").published == []
    with pytest.raises(UserError, match="data"):
        check_config({**GOOD, "data": None}, RestorationConfig, "x.yaml")


@given(st.integers(0, 255), st.integers(1, 255))
def test_numbers_are_plain_arithmetic(a: int, b: int) -> None:
    assert number(f"{a}/{b}") == pytest.approx(a / b)
    assert number(f"2*{a} - {b}") == 2 * a - b


@pytest.mark.parametrize("text", ["__import__('os')", "eps", "4//255", "a/255", "", "[1]", "1/0", "2**9"])
def test_anything_else_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        number(text)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"attack": ["pgd"]}, r"unknown key 'attack': did you mean 'attacks'"),
        ({"attacks": ["pdg"]}, r"unknown attack method 'pdg': did you mean 'pgd'"),
        ({"attacks": [{"method": "pgd", "step": 5}]}, r"'step': did you mean 'steps'"),
        ({"attacks": [{"method": "pgd", "steps": 2.5}]}, r"steps .* whole number"),
        ({"attacks": [{"method": "pgd", "steps": "many"}]}, r"'many' is not a number"),
        ({"attacks": [{"method": "pgd", "random_start": 3}]}, r"random_start .* like True"),
        ({"attacks": [{"method": "pgd", "step_size": -1}]}, r"step_size .* positive"),
        ({"attacks": [{"method": "pgd", "objective": "msee"}]}, r"unknown objective 'msee'"),
        ({"attacks": [{"method": "cw"}]}, r"'cw' is defined for norm l2"),
        ({"attacks": [{"method": "region_pgd", "mask": 3}]}, r"mask of attack 'region_pgd' must be text, .* not 3"),
        ({"attacks": [{"method": "pgd", "eps": "-1/255"}]}, r"eps must be finite and 0 or more"),
        ({"attacks": [{"method": "pgd", "eps": 8}]}, r"did you mean 8/255"),
        ({"attacks": ["pgd", "pgd"]}, r"two attack blocks are called"),
        (
            {"restorers": [{"name": "a", "weight": "b.pth"}]},
            r"'restorers.0.weight': did you mean 'restorers.0.weights'",
        ),
        ({"restorers": []}, r"restorers"),
        ({"data": {"kind": "pairs", "lq": ["a"]}}, r"needs `gt`"),
        ({"data": {"kind": "folder", "lq": ["a"], "gt": "b"}}, r"takes no `gt`"),
        ({"batch_size": 0}, r"batch_size: .*greater than or equal to 1"),
    ],
)
def test_mistakes_are_named(change, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_config({**GOOD, **change}, RestorationConfig, "x.yaml")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("x.yaml: ")


@pytest.mark.parametrize("sigma", [1e-320, 1e300])
def test_numbers_that_networks_cannot_hold_are_refused(sigma) -> None:
    values = {"restorers": ["nafnet_mini"], "attacks": ["noise"], "defences": [{"kind": "blur", "sigma": sigma}]}
    with pytest.raises(UserError, match="beyond what 32-bit floating point can hold"):
        check_config(values, RestorationConfig, "test")
    check_config({**values, "defences": [{"kind": "blur", "sigma": 0}]}, RestorationConfig, "test")


def test_files_and_overrides(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("restorers: [nafnet_mini]\nattacks:\n- {method: pgd, steps: 3}\n")
    config = load_config(path, RestorationConfig, ["seed=7", "attacks.0.steps=9", "data.kind=embedded"])
    assert config.seed == 7 and config.attacks[0].options_at(1)["steps"] == 9
    with pytest.raises(UserError, match="key=value"):
        load_config(path, RestorationConfig, ["seed"])
    with pytest.raises(UserError, match=r"attacks\.7\.steps=1.*does not fit"):
        load_config(path, RestorationConfig, ["attacks.7.steps=1"])
    with pytest.raises(UserError, match="no config at"):
        load_config(tmp_path / "none.yaml", RestorationConfig)
    path.write_text("restorers: [a\nattacks: pgd")
    with pytest.raises(UserError, match=r"not valid YAML.*line 2"):
        load_config(path, RestorationConfig)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path, RestorationConfig)
    path.write_text("- pgd")
    with pytest.raises(UserError, match="must hold keys and values"):
        load_config(path, RestorationConfig)


def test_every_shipped_config_is_valid() -> None:
    paths = sorted(shipped("configs").rglob("*.yaml"))
    assert paths
    schemas = {
        "finetune": FinetuneConfig, "network": RestorerConfig,
        "train restorer": TrainConfig, "train classifier": ClassifierConfig, "train diffusion": DiffusionConfig,
        "train filter": FilterConfig,
    }  # fmt: skip
    for path in paths:
        purpose, schema, *_ = path.read_text().splitlines()
        assert purpose.startswith("# ") and purpose.endswith("."), f"{path} should begin with what it is for"
        if schema == "# schema: preset":
            continue  # no config by itself: tests/grid/test_presets.py reads them
        if schema == "# schema: evaluate":
            load_run_config(path)
        else:
            load_config(path, schemas[schema.removeprefix("# schema: ")])


def test_an_override_without_a_number_is_of_every_block_of_a_list(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("data: [{kind: a}, {kind: b, size: 3}]\neps: [1, 2]\n")
    values = read_values(tmp_path / "a.yaml", ["data.size=7", "data.0.kind=c"])
    assert values["data"] == [{"kind": "c", "size": 7}, {"kind": "b", "size": 7}]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("eps.first=3", "`eps` is a list of 2, counted from 0: there is no `first` in it"),
        ("eps.2=3", "`eps` is a list of 2, counted from 0: there is no `2` in it"),
        ("data.x.y=1", "`data` is a list of 2, counted from 0: there is no `x` in it"),
        ("data.1.size.more=3", "`data.1.size` is 3 there, which holds no `more`: set `data.1.size` as a whole"),
        ("train.sources=hdr", "`train` is 'sets' there, which holds no `sources`: set `train` as a whole"),
    ],
)
def test_an_override_that_does_not_fit_says_what_is_there(override, why, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("data: [{kind: a}, {kind: b, size: 3}]\neps: [1, 2]\ntrain: sets\n")
    with pytest.raises(UserError) as refused:
        read_values(tmp_path / "a.yaml", [override])
    assert str(refused.value) == f"override {override!r} does not fit the config: {why}"


def test_an_override_fills_a_block_that_is_empty(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("purifier:\n")
    assert read_values(tmp_path / "a.yaml", ["purifier.name=mine"]) == {"purifier": {"name": "mine"}}
