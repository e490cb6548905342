"""The source files of the user's own code: what a config names, and every module of theirs that it imports.

They are read, not run, so that they are the same whatever this process has imported before.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import udc_robust


def source_files(written: str) -> dict[str, Path]:
    """The files of the code that ``package.module:name`` or ``file.py:name`` means; of any other text there are none.

    Of what is installed the named module only: its version says what it is.

    Returns:
        Files by name: that of ``file.py:name`` as it is written, modules as ``package/module.py``.
    """
    code, colon, _ = written.rpartition(":" if ":" in written else ".")
    if colon == ":" and code.endswith(".py"):
        return {written: Path(code), **_imported_by(Path(code), "")} if Path(code).is_file() else {}
    if not code.isascii() or not all(part.isidentifier() for part in code.split(".")):
        return {}
    own = _files_of(code, _folders())
    if own:
        return {name: path for file in own.items() for name, path in (file, *_imported_by(file[1], code).items())}
    try:
        found = importlib.util.find_spec(code) if colon == ":" else None
    except (ImportError, ValueError):
        found = None
    return {written: Path(found.origin)} if found and found.origin and Path(found.origin).is_file() else {}


def _folders() -> list[Path]:
    """Where Python looks for modules, without the standard library and what is installed."""
    installed = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders = [Path(entry or ".").absolute() for entry in sys.path]
    return [
        folder for folder in folders
        if not installed & {folder, *folder.parents} and folder.name not in ("site-packages", "dist-packages")
    ]  # fmt: skip


def _imported_by(file: Path, module: str) -> dict[str, Path]:
    """The files of all modules that a file imports, and that these import, by their names."""
    folders = [file.parent.absolute(), *_folders()]
    found: dict[str, Path] = {}
    waiting = [(file, module)]
    while waiting:
        source, name = waiting.pop()
        for imported in _imports(source, name):
            for part, path in _files_of(imported, folders).items():
                if part not in found:
                    found[part] = path
                    waiting.append((path, part.removesuffix(".py").removesuffix("/__init__").replace("/", ".")))
    return found


def _imports(source: Path, module: str) -> Iterator[str]:
    """Everything that a file of Python may import, anywhere in it, by its dotted name."""
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):  # it may never be imported: whoever does is told then
        return
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files_of(module: str, folders: Sequence[Path]) -> dict[str, Path]:
    """The files of a module and of the packages that it lies in, as far as they are in one of the folders."""
    parts = module.split(".")
    if parts[0] == udc_robust.__name__:
        return {}
    for folder in folders:
        found: dict[str, Path] = {}
        for number in range(1, len(parts) + 1):
            inner = "/".join(parts[:number])
            for name in (f"{inner}/__init__.py", f"{inner}.py"):
                if (folder / name).is_file():
                    found[name] = folder / name
                    break
        if found:
            return found
    return {}
