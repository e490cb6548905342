"""Training curves: TensorBoard reads them, and their files say nothing of the machine."""

from __future__ import annotations

import socket

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from udc_robust.training.curves import Curves


def test_tensorboard_reads_them(tmp_path) -> None:
    with Curves(tmp_path / "curves") as drawn:
        for step in (20, 40):
            drawn.add({"loss": 1 / step, "validation/psnr": 30.5}, step)
    read = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [(point.step, point.value) for point in read.Scalars("validation/psnr")] == [(20, 30.5), (40, 30.5)]
    assert [round(point.value, 6) for point in read.Scalars("loss")] == [0.05, 0.025]


def test_nothing_names_the_machine(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a-host-of-mine")
    with Curves(tmp_path / "curves") as drawn:
        drawn.add({"loss": 1.0}, 1)
    (path,) = (tmp_path / "curves").iterdir()
    assert "tfevents" in path.name and "a-host" not in path.name and b"a-host" not in path.read_bytes()


def test_processes_that_write_nothing(tmp_path) -> None:
    with Curves(None) as drawn:
        drawn.add({"loss": 1.0}, 1)
    assert not any(tmp_path.iterdir())
