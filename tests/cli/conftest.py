"""Every command of these tests runs in a clean folder of its own, without a network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from udc_robust.metrics import perceptual


@pytest.fixture(autouse=True)
def _clean_folder(tmp_path, monkeypatch) -> Iterator[None]:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no downloads in tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    yield
    perceptual._try_load.cache_clear()
