"""The command line: one verb per job, a file per family of verbs. It parses, calls and prints; others do the work.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 1 ours.
"""

from __future__ import annotations

import io
import re
import sys
import time
import traceback
from typing import Any

import typer

from udc_robust.cli import certify, data, evaluate, info, init, optics, pictures, train
from udc_robust.errors import UserError
from udc_robust.files import DISK
from udc_robust.processes import first_to_speak, several
from udc_robust.stopping import stoppable
from udc_robust.terminal import shown

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Measure and harden image restoration for under-display cameras against adversarial perturbations.",
)
trainings = typer.Typer(no_args_is_help=True, help="Train a network from a YAML file.")
app.add_typer(trainings, name="train")

trainings.command("restorer")(train.train_restorer)
trainings.command("classifier")(train.train_classifier)
trainings.command("filter")(train.train_filter)
trainings.command("diffusion")(train.train_diffusion)
app.command()(init.init)
app.command()(evaluate.evaluate)
app.command()(evaluate.classify)
app.command()(evaluate.report)
app.command()(evaluate.leaderboard)
app.command()(pictures.attack)
app.command()(pictures.restore)
app.command()(pictures.purify)
app.command("noise-level")(evaluate.noise_level)
app.command()(evaluate.limits)
app.command()(certify.certify)
app.command()(optics.tolerance)
app.command()(train.finetune)
app.command()(train.interpolate)
app.command()(data.synth)
app.command()(data.fetch)
app.command()(data.psf)
app.command("psf-code")(data.psf_code)
app.command()(info.models)
app.command()(info.configs)
app.command()(info.doctor)


_LINES = re.compile(r"\s*\n\s*")
_WORKER_LOST = re.compile(r"DataLoader worker .*(killed|exited)")
_MOMENT = 0.5
"""Seconds by which a signal to all processes of a command may reach this one later than its workers."""


def main() -> None:
    """Entry point of ``udc-robust`` and ``python -m udc_robust``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks stops nothing
    with stoppable():
        sys.exit(_answered())


def _answered() -> int:
    """Run the command; its exit code, once what went wrong is told: in one line for all processes of a launch."""
    try:
        return app(standalone_mode=False) or 0
    except UserError as error:
        _tell(str(error))
        return 2
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's usage errors
            _tell_usage(error)
            return error.exit_code
        if isinstance(error, OSError) and (error.errno in DISK or _names_a_path(error)):
            _tell(f"cannot read or write {str(error.filename or 'the answer')[:200]}: {error.strerror}; check the path")
            return 2
        if several() and re.search("gloo|Connection (reset|closed)|store", str(error)):
            _tell("another process of this run is gone; the same command goes on where it was")
        elif _WORKER_LOST.search(str(error)):
            time.sleep(_MOMENT)  # such a signal says it better
            _tell("a process that makes batches was killed (is memory short?); the same command goes on where it was")
        elif first_to_speak():
            traceback.print_exc()
            typer.secho("udc-robust: this is a fault of ours; please report the lines above", fg="red", err=True)
        return 1


def _tell_usage(error: Any) -> None:
    """A mistake on the command line; the help where nothing was said at all."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    context, verb = getattr(error, "ctx", None), ""
    while context is not None and context.parent is not None:
        context, verb = context.parent, f" {context.info_name}{verb}"
    _tell(f"{error.format_message().rstrip('.?')}; try `udc-robust{verb} --help`")


def _names_a_path(error: OSError) -> bool:
    """Too long a name, a loop of links: what the system says of a path of the user's."""
    return error.filename is not None and not isinstance(error, FileNotFoundError)


def _tell(message: str) -> None:
    """One line, also of what a library told in several."""
    if first_to_speak():
        typer.secho(f"udc-robust: {shown(_LINES.sub(' ', message))}", fg="red", err=True)
