"""Attacks made on other networks in a run: who is attacked with what, what it costs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from small_run import OPTIONS, rows_of, run, values
from torch import nn

from udc_robust.attacks import Linf, Sources, image_seed, objective, transfer
from udc_robust.config_file import check_config
from udc_robust.data.images import read_image
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import RestorerSpec, build_network, load_restorer
from udc_robust.tasks.restoration_schema import RestorationConfig

PGD = {"method": "pgd", "steps": 3}
ONE_EPS = {"eps": ["4/255"]}


@pytest.fixture
def networks(workplace) -> dict[str, dict[str, str]]:
    """Blocks of the tiny network, of two others (one works in another domain), and of the tiny one's twin."""
    for seed, name, domain in ((5, "other", "srgb"), (6, "third", "tonemapped")):
        torch.manual_seed(seed)
        network = build_network("NAFNet", OPTIONS)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.15)
        facts = {"network": "NAFNet", "options": OPTIONS, "domain": domain}
        save_weights(workplace / f"{name}.safetensors", network, facts)
    (workplace / "twin.safetensors").write_bytes((workplace / "tiny.safetensors").read_bytes())
    names = ("tiny", "other", "third", "twin")
    return {name: {"name": name, "weights": str(workplace / f"{name}.safetensors")} for name in names}


def _transfer(*sources, **more) -> dict:
    return {**PGD, "access": "transfer", "sources": list(sources), **more}


def _load(workplace: Path, name: str):
    return load_restorer(RestorerSpec(name, weights=str(workplace / f"{name}.safetensors")), "srgb")


def test_a_transfer_is_made_on_its_sources_and_judged_on_every_victim(workplace, networks) -> None:
    attacks = [_transfer("other", networks["third"], name="both")]
    blur = {"kind": "blur", "sigma": 1}
    out = run(workplace, "out", restorers=[networks["tiny"], networks["other"]], defences=["none", blur],
              attacks=attacks, **ONE_EPS)  # fmt: skip
    rows = [row for row in rows_of(out / "results.csv") if row["attack"] == "both"]
    assert len(rows) == 5 * 2 * 2 and {row["access"] for row in rows} == {"transfer"}
    told = {row["restorer"]: row["exactness"] for row in rows}
    assert told == {"tiny": "of other and third alone", "other": "of third alone"}  # never its own source
    costs = {row["restorer"]: (row["forwards"], row["backwards"], row["queries"]) for row in rows}
    assert costs == {"tiny": ("8", "6", "0"), "other": ("4", "3", "0")}
    victims = {"none": _load(workplace, "tiny")}
    x, gt = (read_image(workplace / part / "2.png").pixels[None] for part in ("lq", "gt"))
    mse, seed = objective("mse"), image_seed(0, "five/2", "both-linf-4_255")
    sources = Sources.of([_load(workplace, "other"), _load(workplace, "third")], mse, gt)
    alone = transfer(victims["none"], x, mse, Linf(4 / 255), "pgd", sources, target=gt, seeds=[seed], steps=3)
    of_image = {row["defence"]: row for row in rows if (row["restorer"], row["image"]) == ("tiny", "2")}
    figure = psnr(alone.adv_output.double(), gt.double()).item()
    assert figure == pytest.approx(float(of_image["none"]["psnr"]), abs=1e-3)
    images = [read_image(path).pixels for path in (out / "images/five/2").rglob("both*.input.png")]
    assert any(torch.allclose(image, alone.x_adv[0], atol=1e-6) for image in images)
    facts = json.loads((out / "run.json").read_text())
    assert set(facts["networks"]) == {"tiny", "other"} and facts["sources"]["third"]["domain"] == "tonemapped"


def test_a_network_is_not_attacked_with_itself_under_another_name(workplace, networks, capsys) -> None:
    asking = {"method": "square", "steps": 5, "sources": ["other", networks["twin"]]}
    attacks = [PGD, _transfer(networks["twin"]), asking]
    out = run(workplace, "out", restorers=[networks["tiny"], networks["other"]], attacks=attacks, **ONE_EPS)
    met = {(row["restorer"], row["attack"], row["exactness"]) for row in rows_of(out / "results.csv")}
    assert met == {
        ("tiny", "clean", "n/a"), ("other", "clean", "n/a"), ("tiny", "pgd", "exact"), ("other", "pgd", "exact"),
        ("other", "pgd from twin", "of twin alone"), ("tiny", "square from other+twin", "of other alone"),
        ("other", "square from other+twin", "of twin alone"),
    }  # fmt: skip
    told = capsys.readouterr().err
    assert "attack pgd from twin on tiny: not made: no network is its own source" in told
    assert "attack square from other+twin on tiny: made on other alone" in told


def test_an_image_towards_which_an_attack_goes_is_the_victims_own(workplace, networks) -> None:
    """Made of each victim's own answer, it is not the other's, whichever came first."""
    attacks = [_transfer(networks["third"], objective="towards", target="line", detail=[2, 2, 8, 8], name="made")]
    both, alone = (
        run(workplace, name, restorers=[networks[name] for name in names], attacks=attacks, **ONE_EPS)
        for name, names in (("both", ("tiny", "other")), ("alone", ("other",)))
    )
    found = [
        [row for row in rows_of(out / "results.csv") if (row["restorer"], row["attack"]) == ("other", "made")]
        for out in (both, alone)
    ]
    assert found[0] == found[1] and found[0]


def test_batch_size_and_kills_change_nothing(workplace, networks) -> None:
    data = {**values(workplace)["data"][0], "limit": 3}
    attacks = [
        _transfer("tiny", networks["third"]),
        {"method": "square", "steps": 12, "sources": networks["third"]},
        {"method": "prgf", "queries": 32, "samples": 5, "sources": networks["third"]},
    ]
    changes = {"data": [data], "attacks": attacks, **ONE_EPS}
    one, three = (run(workplace, f"b{n}", batch_size=n, **changes) for n in (1, 3))
    for name in ("results.csv", "queries.csv"):
        for a, b in zip(rows_of(one / name), rows_of(three / name), strict=True):
            assert all(a[key] == b[key] for key in ("image", "attack", "restorer"))
            assert a.get("queries") == b.get("queries")
            assert float(a["psnr"]) == pytest.approx(float(b["psnr"]), abs=1e-3)
    whole = {name: (three / name).read_bytes() for name in ("results.csv", "queries.csv")}
    journal = (three / "journal.jsonl").read_bytes()
    for share in (0.6,):
        (three / "journal.jsonl").write_bytes(journal[: int(len(journal) * share)])
        run(workplace, "b3", batch_size=3, **changes)
        assert {name: (three / name).read_bytes() for name in whole} == whole


def test_what_is_left_over_queries_ends_where_the_attack_does(workplace, networks) -> None:
    attacks = [PGD, {"method": "square", "steps": 20}, {"method": "simba", "steps": 20, "sources": networks["other"]}]
    defences = ["none", {"kind": "noise", "sigma": 0.05}]
    data = {**values(workplace)["data"][0], "limit": 2}
    out = run(workplace, "out", data=[data], attacks=attacks, defences=defences, draws=3, **ONE_EPS)
    asked, rows = rows_of(out / "queries.csv"), rows_of(out / "results.csv")
    assert {row["method"] for row in asked} == {"square", "simba"}
    for row in (row for row in rows if row["access"] == "query"):
        key = ("restorer", "defence", "attack", "image")
        mine = [one for one in asked if all(one[name] == row[name] for name in key)]
        counts = [int(one["queries"]) for one in mine]
        assert counts == sorted(set(counts)) and counts[:2] == [10, 20] and counts[-1] == int(row["queries"])
        assert float(mine[-1]["psnr"]) == pytest.approx(float(row["psnr"]), rel=1e-6)
        if row["defence"] == "none" and row["method"] == "square":
            assert float(mine[0]["psnr"]) >= float(mine[1]["psnr"]) - 0.02
    assert not (run(workplace, "plain", attacks=[PGD], **ONE_EPS) / "queries.csv").exists()


def test_other_weights_of_a_source_are_another_run(workplace, networks) -> None:
    changes = {"attacks": [_transfer(networks["other"])], **ONE_EPS}
    run(workplace, "out", **changes)
    (workplace / "other.safetensors").write_bytes((workplace / "third.safetensors").read_bytes())
    with pytest.raises(UserError, match="run of other inputs"):
        run(workplace, "out", **changes)


def test_a_shipped_source_is_found_by_its_name(workplace) -> None:
    out = run(workplace, "out", attacks=[_transfer("nafnet_mini", steps=1)], **ONE_EPS)
    assert json.loads((out / "run.json").read_text())["sources"]["nafnet_mini"]["trained"]
    fingerprint = yaml.safe_load((out / "config.yaml").read_text())["fingerprint"]
    assert set(fingerprint["weights"]) == {"tiny", "nafnet_mini"}  # told by what is in its file


@pytest.mark.parametrize(
    "attack, message",
    [
        ({**PGD, "access": "transfer"}, "attack 'pgd' needs `sources`"),
        ({**PGD, "sources": "other"}, "attack 'pgd' has `sources`: add `access: transfer`"),
        ({**PGD, "access": ["transfer", "blind"], "sources": "other"}, "`access: transfer` stands alone"),
        ({**PGD, "access": "transfer", "sources": "other", "known_seed": True}, "stands alone, without known_seed"),
        ({**PGD, "access": "transfer", "sources": "other", "jitter": 0.01}, "`jitter` is for gradients through"),
        ({"method": "square", "access": "transfer", "sources": "other"}, "for methods that follow a gradient"),
        ({"method": "noise", "sources": "other"}, "attack 'noise' makes nothing of `sources`: .*prgf.* do"),
        ({"method": "brightness", "sources": "other"}, "makes nothing of `sources`"),
        ({"method": "prgf"}, "attack 'prgf' needs `sources`"),
        ({"method": "square", "sources": ["other", "other"]}, "has the source 'other' twice"),
        ({"method": "square", "sources": []}, "at least 1 item"),
        ({"method": "square", "sources": {"name": "tiny", "weights": "b.pth"}}, "two networks are called 'tiny'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_when_the_config_is_read(workplace, attack, message) -> None:
    with pytest.raises(UserError, match=message) as told:
        check_config(values(workplace, attacks=[attack]), RestorationConfig, "test")
    assert "\n" not in str(told.value)


def test_mistakes_are_told_before_any_work(workplace, networks) -> None:
    small = workplace / "small.py"
    small.write_text(
        "from torch import nn\n\nclass Large(nn.Conv2d):\n    min_size = 64\n    def __init__(self):\n"
        "        super().__init__(3, 3, 1)\n\nclass Half(nn.Conv2d):\n    def __init__(self):\n"
        "        super().__init__(3, 3, 1, 2)\n"
    )
    for name in ("Large", "Half"):
        save_weights(workplace / f"{name}.safetensors", nn.Conv2d(3, 3, 1), {})
    own = {
        name: {"name": name, "network": f"{small}:{name}", "weights": str(workplace / f"{name}.safetensors")}
        for name in ("Large", "Half")
    }
    for source, message in (
        ("nafnet_mimi", "sources: .*nafnet_mimi.*did you mean 'nafnet_mini'"),
        ({"name": "gone", "weights": str(workplace / "gone.safetensors")}, "sources: .*gone.safetensors"),
        ({"name": "raw", "network": "NAFNet", "options": OPTIONS}, "source 'raw' has random weights"),
        (own["Large"], "side of 24 px; Large needs 64"),
        (own["Half"], "a restorer gives images of the size that it takes"),
    ):
        with pytest.raises(UserError, match=message) as told:
            run(workplace, "out", attacks=[_transfer(source)], **ONE_EPS)
        assert "\n" not in str(told.value)
        assert not (workplace / "out").exists()


def test_a_network_under_test_lends_its_block_to_sources_and_the_other_way(workplace, networks) -> None:
    attacks = [_transfer("third"), _transfer(networks["third"], name="again"), _transfer("tiny", name="its own")]
    config = check_config(values(workplace, attacks=attacks), RestorationConfig, "test")
    assert [block.name for block in config.source_blocks] == ["third"]
    assert config.source_blocks[0].weights == networks["third"]["weights"]
    again = check_config(config.model_dump(mode="json"), RestorationConfig, "again")
    assert again.source_blocks == config.source_blocks
