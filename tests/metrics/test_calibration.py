"""The calibration error: 0 for the honest, the gap for the boastful, and by hand."""

from __future__ import annotations

import pytest

from udc_robust.metrics.calibration import expected_calibration_error


def test_the_error_is_the_gap_between_word_and_deed() -> None:
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == 0
    assert expected_calibration_error([1.0] * 4, [1, 1, 0, 0]) == 0.5
    # Two bins of ten: 0.2 too modest on one answer of four, 0.4 too sure on three.
    found = expected_calibration_error([0.8, 0.4, 0.4, 0.4], [1, 0, 0, 0], bins=10)
    assert found == pytest.approx(0.25 * 0.2 + 0.75 * 0.4)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0


@pytest.mark.parametrize("confidence, right", [([], []), ([0.5], [1, 0])])
def test_what_cannot_be_compared(confidence, right) -> None:
    with pytest.raises(ValueError, match="as many answers as confidences"):
        expected_calibration_error(confidence, right)
