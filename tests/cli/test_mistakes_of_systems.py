"""Mistakes with the systems of the documents: one line on stderr that names the key and the mend, exit code 2."""

from __future__ import annotations

import pytest
from clean_folder import run

DIGITS = ("train=digits:train", "validation=digits:test", "patch_size=8", "pad=0", "steps=1")


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("train", "classifier", "gccs", *DIGITS, "weights=null", "network=resnet8", "batch_size=10"),
         "several images a class in a batch: raise batch_size 10 to 40"),
        (("train", "filter", "lq_vae_mini", *DIGITS, "patch_size=10"),
         "patch_size 10 does not divide into latents of 4 pixels: give a multiple of 4"),
        (("train", "classifier", "student", *DIGITS, "teacher=null"), "mode 'student' needs a `teacher`"),
        (("certify", "digits_mini", "--data", "digits:test", "--noise", "laplace", "--norm", "l2"),
         "laplace noise certifies l1; take --noise gaussian, or --norm l1"),
        (("certify", "nafnet_mini", "--norm", "linf"), "a restorer's median is certified in --norm l2"),
        (("certify", "digits_mini", "--data", "digits:test", "--sigma", "much"), "--sigma much must be numbers"),
        (("certify", "digits_mini", "--data", "digits:test", "--limit", "0"), "Invalid value for '--limit'"),
        (("certify", "digits_mini", "--data", "digits:test", "--crop", "8"), "--crop are of a restorer"),
        (("certify", "nafnet_mini", "--side", "8"), "--side goes with --data"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(arguments, told, capsys) -> None:
    run(*arguments, "--out", "runs/there", code=2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1] and "Traceback" not in "".join(lines)
