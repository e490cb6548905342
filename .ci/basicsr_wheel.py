"""Builds a wheel of basicsr 1.4.2, which is published as source only, for Python 3.13 and later; no others need it.

Its setup.py reads `locals()` after `exec`, which holds nothing since Python 3.13 (PEP 667). That line is corrected.

Example: .venv/bin/python .ci/basicsr_wheel.py .venv/wheels
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/basicsr/"
SHA256 = "b89b595a87ef964cda9913b4d99380ddb6554c965577c0c10cb7b78e31301e87"
WRONG, RIGHT = (
    "        exec(compile(f.read(), version_file, 'exec'))\n    return locals()",
    ("        found = {}\n        exec(compile(f.read(), version_file, 'exec'), found)\n    return found"),
)


def main(folder: Path) -> None:
    """Fetch the source, correct it and build the wheel into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.version_info < (3, 13) or any(folder.glob("basicsr-1.4.2-*.whl")):
        return
    link = re.search(r'href="([^"]*/basicsr-1\.4\.2\.tar\.gz)', _fetched(INDEX).decode())
    if link is None:
        sys.exit(f"{INDEX} has no basicsr-1.4.2.tar.gz")
    source = _fetched(urllib.parse.urljoin(INDEX, link[1]))
    if hashlib.sha256(source).hexdigest() != SHA256:
        sys.exit(f"{link[1]} is not the file that was tested: its sha256 differs")
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(fileobj=io.BytesIO(source)) as archive:
            archive.extractall(place, filter="data")
        setup = Path(place, "basicsr-1.4.2", "setup.py")
        text = setup.read_text(encoding="utf-8")
        assert WRONG in text
        setup.write_text(text.replace(WRONG, RIGHT), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder)]
        subprocess.run([*pip, str(setup.parent)], check=True)


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
