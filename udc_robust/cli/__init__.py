"""The command line: one verb per job, a file per family of verbs. It parses, calls and prints; others do the work.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 1 ours.
"""

from __future__ import annotations

import sys
import traceback

import typer

from udc_robust.cli import data, evaluate, info, init, pictures, train
from udc_robust.errors import UserError

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
trainings.command("diffusion")(train.train_diffusion)
app.command()(init.init)
app.command()(evaluate.evaluate)
app.command()(evaluate.classify)
app.command()(evaluate.report)
app.command()(pictures.attack)
app.command()(pictures.restore)
app.command()(pictures.purify)
app.command("noise-level")(evaluate.noise_level)
app.command()(train.finetune)
app.command()(data.synth)
app.command()(data.fetch)
app.command("psf-code")(data.psf_code)
app.command()(info.models)
app.command()(info.configs)
app.command()(info.doctor)


def main() -> None:
    """Entry point of ``udc-robust`` and ``python -m udc_robust``."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        typer.secho(f"udc-robust: {error}", fg="red", err=True)
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        typer.secho("udc-robust: stopped; the same command goes on where it was", err=True)
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            sys.exit(error.exit_code)
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
            # Too long a name, a loop of links, no permission: what the system says of a path of the user's.
            told = f"{str(error.filename)[:200]}: {error.strerror}"
            typer.secho(f"udc-robust: {told}: check the path", fg="red", err=True)
            sys.exit(2)
        traceback.print_exc()
        typer.secho("udc-robust: this is a fault of ours; please report the lines above", fg="red", err=True)
        sys.exit(1)
