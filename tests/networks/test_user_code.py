"""What the user brings by its path: any object, networks above all, and whose fault a failure is."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier
from udc_robust.errors import UserError
from udc_robust.networks.user_code import answered, build, guarded, load_object, network_builder
from udc_robust.restorers.zoo import build_network


def test_any_object_by_module_and_by_file(tmp_path) -> None:
    assert load_object("math:pi", "number") == load_object("math.pi", "number") == 3.141592653589793
    (tmp_path / "mine.py").write_text("EPS = 4\ndef loss(a, b):\n    return a - b\n")
    assert load_object(f"{tmp_path}/mine.py:EPS", "number") == 4
    assert load_object(f"{tmp_path}/mine.py:loss", "objective")(5, 3) == 2


def test_a_file_may_hold_dataclasses_and_hides_no_module(tmp_path) -> None:
    (tmp_path / "json.py").write_text(
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int = 1\n"
    )
    point = load_object(f"{tmp_path}/json.py:Point", "point")
    assert dataclasses.asdict(point()) == {"x": 1}
    import json as again

    assert again is json and json.dumps([]) == "[]"


BROKEN = {
    "zero.py": ("x = 0\n\n1 / x\n", r"zero\.py:Net': ZeroDivisionError: division by zero \(.*zero\.py, line 3"),
    "syntax.py": ("x = 1\ndef f(:\n", r"SyntaxError: invalid syntax \(.*syntax\.py, line 2"),
    "needs.py": ("import nothing_there\n", r"ModuleNotFoundError: No module.*there' \(.*needs\.py, line 1"),
    "deep.py": ("import json\njson.loads('{')\n", r"JSONDecodeError: .*deep\.py, line 2"),
    "leaves.py": ("raise SystemExit('usage')\n", r"SystemExit: usage \(.*leaves\.py, line 1"),
    "reads.py": ("open('nowhere.txt')\n", r"FileNotFoundError: .*nowhere\.txt.*reads\.py, line 1"),
    "near.py": ("class Nett: pass\n", r"has no 'Net' for network: did you mean 'Nett'"),
    "far.py": ("import torch\nclass Other: pass\n", r"has no 'Net' for network: it has Other$"),
    "empty.py": ("", "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_faults_of_the_users_file_name_its_line(name, tmp_path) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        load_object(f"{tmp_path}/{name}:Net", "network")
    assert "\n" not in str(raised.value)


def test_a_fault_in_a_package_names_its_deepest_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "__init__.py").write_text("")
    (tmp_path / "their_package" / "nets.py").write_text("from their_package import blocks\n")
    (tmp_path / "their_package" / "blocks.py").write_text("\nprint(undefined)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"NameError: name 'undefined' is not defined \(.*blocks\.py, line 2"):
        load_object("their_package.nets:Net", "network")


@pytest.mark.parametrize(
    "path, message",
    [
        ("no_such_package.nets:Net", "no module 'no_such_package'; install it"),
        ("os.no_such:Net", r"no module 'os\.no_such'"),
        ("missing/file.py:Net", "'missing/file.py'.*no such file"),
        ("nets.py", "write package.module:name or file.py:name"),
        ("Net", "names no object"),
    ],
)
def test_paths_that_lead_nowhere(path, message) -> None:
    with pytest.raises(UserError, match=message):
        load_object(path, "network")


def test_a_network_may_come_from_a_function(tmp_path) -> None:
    assert isinstance(build_network("torch.nn:Identity", {}), torch.nn.Identity)
    classifier = load_classifier(ClassifierSpec("mine", "torchvision.models:resnet18", {"num_classes": 3}))
    assert classifier(torch.rand(1, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(UserError, match=r"neither a torch\.nn.Module class nor a function"):
        network_builder("math:pi")
    with pytest.raises(UserError, match=r"neither a torch\.nn.Module class nor a function"):
        network_builder("collections:OrderedDict")
    with pytest.raises(UserError, match="network 'math:sqrt' made a float"):
        build(lambda x: x**0.5, "math:sqrt", {"x": 2.0})
    (tmp_path / "bad.py").write_text("import torch\ndef net(width=0):\n    return torch.nn.Conv2d(3, 8 // width, 3)\n")
    with pytest.raises(UserError, match=r"cannot be built.*ZeroDivisionError.*bad\.py, line 3"):
        build_network(f"{tmp_path}/bad.py:net", {})
    with pytest.raises(UserError, match=r"does not take these options.*depth"):
        build_network(f"{tmp_path}/bad.py:net", {"depth": 1})


MINE = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

class Raises(Base):
    def forward(self, x):
        return self.layer(x).nonsense

class Pair(Base):
    def forward(self, x):
        return self.layer(x), x

class Named(Base):
    def forward(self, x):
        return {"out": self.layer(x)}

class Leaves(Base):
    def forward(self, x):
        raise SystemExit(0)

class Whole(Base):
    def forward(self, x):
        return (self.layer(x) * 255).long()
"""


@pytest.mark.parametrize(
    "name, message",
    [
        ("Raises", r"AttributeError: .*'nonsense' \(.*mine\.py, line 12\)"),
        ("Pair", r"answers with a tuple of 2 \(\(1, 3, 8, 8\), \(1, 3, 8, 8\)\)"),
        ("Named", "answers with a dict of 'out'"),
        ("Leaves", r"SystemExit: 0 \(.*mine\.py, line 24\)"),
        ("Whole", r"answers with torch\.int64"),
    ],
)
def test_an_answer_that_is_no_tensor_of_numbers(name, message, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    network = build_network(f"{tmp_path}/mine.py:{name}", {})
    with pytest.raises(UserError, match=f"^restorer 'mine' .*{message}"):
        answered(network, torch.rand(1, 3, 8, 8), "restorer 'mine'")


def test_a_fault_of_ours_stays_one() -> None:
    network = build_network("NAFNet", {"width": 2, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]})
    network.intro = None
    with pytest.raises(TypeError):
        answered(network, torch.rand(1, 3, 8, 8), "restorer 'ours'")


def test_a_function_of_the_user_is_blamed_by_its_line(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("def f(a, *, b=1):\n    return a / (b - 1)\n")
    call = guarded(load_object(f"{tmp_path}/mine.py:f", "metric"), "metric 'f'")
    assert call(4, b=3) == 2
    with pytest.raises(UserError, match=r"metric 'f': ZeroDivisionError: division by zero \(.*mine\.py, line 2\)"):
        call(4)
