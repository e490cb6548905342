"""Everything of the user's own that a named piece of code depends on is found, without running it."""

from __future__ import annotations

import pytest

from udc_robust.networks.source_files import source_files

FILES = {
    "net.py": "import helper, torch, os\ndef f():\n    from layers.deep import block as b\nraise SystemExit('ran')\n",
    "helper.py": "import net  # in a circle\nfrom udc_robust.errors import UserError\n",
    "unused.py": "",
    "layers/deep/block.py": "import broken\n",
    "broken.py": "def f(:\n",
    "package/__init__.py": "from . import one\n",
    "package/one.py": "from .inner.two import x\n",
    "package/inner/__init__.py": "",
    "package/inner/two.py": "from .. import three\nfrom ..four import *\n",
    "package/three.py": "raise SystemExit('ran')\n",
    "package/four.py": "",
    "package/five.py": "",
}
PACKAGE = {
    "package/__init__.py", "package/one.py", "package/inner/__init__.py", "package/inner/two.py", "package/three.py",
    "package/four.py",
}  # fmt: skip


@pytest.fixture
def place(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_file_and_all_that_it_imports(place) -> None:
    written = f"{place}/net.py:Net"
    found = source_files(written)
    assert set(found) == {written, "net.py", "helper.py", "layers/deep/block.py", "broken.py"}
    assert found["helper.py"] == place / "helper.py"


@pytest.mark.parametrize("written", ["package.inner.two:Net", "package.inner.two.Net"])
def test_a_module_and_its_package(place, monkeypatch, written) -> None:
    monkeypatch.syspath_prepend(place)
    assert set(source_files(written)) == PACKAGE


def test_of_what_is_installed_the_module_itself() -> None:
    (found,) = source_files("torchvision.models:resnet18").values()
    assert found.parts[-2:] == ("models", "__init__.py")


@pytest.mark.parametrize(
    "written", ["NAFNet", "", "4/255", "nowhere.py:f", "a:", ":", "https://x.org:80", "0.5", "os.path"]
)
def test_other_texts_have_none(written) -> None:
    assert source_files(written) == {}
