"""What keeps the package readable: short functions and files, and imports that go one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import udc_robust

ROOT = Path(udc_robust.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LONGEST_FUNCTION, LONGEST_FILE = 60, 300
BASE = {
    "config_file", "errors", "files", "limits", "lock", "names", "outputs", "portable", "processes", "progress",
    "terminal",
}  # fmt: skip
MAY_IMPORT = {
    "metrics": set(),
    "attacks": {"files", "metrics", "names"},
    "optics": BASE,
    "networks": BASE,
    "data": BASE | {"metrics", "optics"},
    "restorers": BASE | {"data", "networks", "optics"},
    "classifiers": BASE | {"data", "networks"},
    "defences": BASE | {"attacks", "classifiers", "data", "metrics", "networks", "optics", "restorers"},
    "detectors": BASE | {"attacks", "defences", "networks"},
    "grid": BASE | {"attacks", "corruptions", "data", "defences", "metrics", "networks", "optics"},
    "report": BASE | {"data", "grid", "metrics"},
    "training": BASE | {"attacks", "classifiers", "data", "defences", "grid", "metrics", "networks", "restorers"},
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imported(path: Path) -> set[str]:
    """Packages and modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)} has a relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {module.split(".")[1] for module in modules if module.startswith("udc_robust.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_and_functions_are_short(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= LONGEST_FUNCTION, f"{node.name} is long"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package) -> None:
    files = [path for path in FILES if _name(path).startswith(f"{package}/")]
    assert files
    for path in files:
        assert _imported(path) <= MAY_IMPORT[package] | {package, "__version__"}, _name(path)


@pytest.mark.parametrize("package", ["grid", "report"])
def test_what_is_common_names_no_task(package) -> None:
    for path in (ROOT / package).rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
        assert not {"RESTORATION", "CLASSIFICATION", "Restorer", "Classifier"} & names, _name(path)


def test_every_package_has_its_rule() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert packages - set(MAY_IMPORT) == {"cli", "tasks"}
