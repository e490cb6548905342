"""What is refused, in one line that says what to do, before any work."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml
from small_study import block, run, values

from udc_robust.classifiers.zoo import shipped_classifiers
from udc_robust.cli import main
from udc_robust.config_file import check_config, load_config
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.files import shipped
from udc_robust.tasks.classification_schema import ClassificationConfig
from udc_robust.tasks.restoration_schema import RestorationConfig


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"attacks": [{"method": "pgd", "objective": "ssim"}]}, "objective 'ssim' compares images: classifiers take"),
        ({"attacks": [{"method": "pgd", "objective": "margn"}]}, "did you mean 'margin'"),
        ({"attacks": [{"method": "pgd", "against": "gt"}]}, "belong to restorers"),
        ({"attacks": [{"method": "cw", "norm": "l2", "objective": "cross_entropy"}]}, "tells success"),
        ({"attacks": ["smooth_field"]}, "looks at the pixels of an answer: it is for restorers"),
        ({"attacks": [{"method": "pgd", "jitter": 0.1, "known_seed": True}]}, "leave out known_seed"),
        ({"attacks": [{"method": "pgd", "eps": 4}]}, "did you mean 4/255"),
        ({"attacks": [{"method": "pgd", "defences": ["halfton"]}]}, "did you mean 'halftone'"),
        ({"attacks": ["fgsm", "fgsm"]}, r"two attack blocks are called 'fgsm \(linf\)'"),
        (
            {"defences": ["none", {"kind": "halftoning"}]},
            "unknown kind of defence 'halftoning': did you mean 'halftone'",
        ),
        ({"defences": ["none", {"kind": "blur", "match": "none"}]}, "give the `validation` images to tune it on"),
        ({"defences": ["none", {"kind": "blur", "restorers": ["tiny"]}]}, "write `classifiers`"),
        ({"defences": ["none", {"kind": "blur", "classifiers": ["tyni"]}]}, "did you mean 'tiny'"),
        ({"data": "digits:tset"}, "did you mean 'test'"),
        ({"data": ["digits:test", "digits:train"]}, "two data blocks are called 'digits'"),
        ({"defences": ["none", {"kind": "quilting", "images": "nowhere"}]}, "nowhere"),
        ({"classifiers": ["resnet20_claen"]}, "unknown classifier"),
    ],
)
def test_mistakes_are_told_before_any_work(place, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        run(place, "out", **changes)
    assert not (place / "out").exists()


def test_labels_must_be_among_the_scores(place) -> None:
    three = block(place, options={"classes": 3})
    del three["weights"]
    with pytest.raises(UserError, match=r"'tiny' on twelve: labels run from 0 to 9, but the 3 classes"):
        run(place, "out", classifiers=[three])


def test_softmax_is_refused(place) -> None:
    with pytest.raises(UserError, match="take the softmax off the network"):
        run(place, "out", classifiers=[block(place, network=f"{place / 'tiny.py'}:Softmax")])


def two_classes(place, names=("ants", "bees")):
    for i, name in enumerate(names):
        write_image(place / "insects" / name / "0.png", torch.full((3, 8, 8), 0.2 + 0.5 * i))
    two = block(place, options={"classes": 2})
    del two["weights"]
    return {"classifiers": [two], "data": str(place / "insects"), "defences": ["none"], "gallery": 0}


def test_some_objectives_need_more_classes(place) -> None:
    for name, needed in (("dlr", 3), ("targeted_dlr", 4)):
        with pytest.raises(UserError, match=f"{name} needs at least {needed} classes, not 2"):
            run(place, "out", **two_classes(place), attacks=[{"method": "pgd", "objective": name}])


def test_an_empty_class_is_told(place) -> None:
    changes = two_classes(place)
    (place / "insects" / "wasps").mkdir()
    with pytest.raises(UserError, match="wasps is empty"):
        run(place, "out", **changes)


def test_images_of_other_sizes_are_told(place) -> None:
    changes = two_classes(place)
    write_image(place / "insects" / "ants" / "1.png", torch.rand(3, 9, 8))
    with pytest.raises(UserError, match="differ in size"):
        run(place, "out", **changes)
    (place / "insects" / "ants" / "1.png").unlink()
    for name in ("ants", "bees"):
        write_image(place / "insects" / name / "0.png", torch.rand(3, 1, 1))
    with pytest.raises(UserError, match=r"does not take images of \(1, 3, 1, 1\)"):
        run(place, "out", **changes)


def test_a_run_folder_of_another_study_is_left_alone(place) -> None:
    run(place, "out", attacks=["noise"])
    before = (place / "out" / "results.csv").read_bytes()
    with pytest.raises(UserError, match=r"holds a run with another attacks.0.method \(noise there, fgsm here\); seed"):
        run(place, "out", attacks=["fgsm"], seed=3)
    assert (place / "out" / "results.csv").read_bytes() == before


def test_restorers_have_no_classes() -> None:
    config = {"restorers": ["nafnet_mini"], "attacks": [{"method": "pgd", "objective": "margin"}]}
    with pytest.raises(UserError, match="objective 'margin' of attack 'pgd-margin' is for classifiers"):
        check_config(config, RestorationConfig, "test")


def test_the_command_line_exits_with_2(place, monkeypatch, capsys) -> None:
    path = place / "study.yaml"
    path.write_text(yaml.safe_dump(values(place, defences=["none", {"kind": "halftoning"}])))
    monkeypatch.setattr(sys, "argv", ["udc-robust", "classify", str(path), "--out", str(place / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and "did you mean 'halftone'" in told and "Traceback" not in told


def test_the_command_line_writes_a_report(place, monkeypatch, capsys) -> None:
    path = place / "study.yaml"
    path.write_text(yaml.safe_dump(values(place, attacks=["fgsm"], gallery=1)))
    monkeypatch.setattr(sys, "argv", ["udc-robust", "classify", str(path), "seed=4", "--out", str(place / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().out
    assert stopped.value.code == 0 and "halftone + tiny" in told and (place / "out" / "report.html").is_file()


@pytest.mark.parametrize("name", ["halftone_study", "sibling_study", "classifiers_quickstart"])
def test_shipped_studies_are_valid_and_their_classifiers_ship(name) -> None:
    config = load_config(shipped("configs") / "evaluate" / f"{name}.yaml", ClassificationConfig)
    assert {classifier.name for classifier in config.classifiers} <= set(shipped_classifiers())


def test_a_restorers_data_block_is_told_what_a_classifiers_is() -> None:
    values = {"data": {"kind": "folder", "lq": "photos"}, "classifiers": "digits_mini", "attacks": ["pgd"]}
    with pytest.raises(UserError, match=r"are for restorers: labelled images are `\{source: FOLDER, side: 224\}`"):
        check_config(values, ClassificationConfig, "mine.yaml")
