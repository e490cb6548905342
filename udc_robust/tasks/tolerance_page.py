"""What a study of tolerances leaves: a table, a summary, curves, pictures, and one page of all of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from udc_robust.files import atomic_path, write_text
from udc_robust.grid.tables import to_csv
from udc_robust.optics.variation import PARAMETERS
from udc_robust.portable import portable
from udc_robust.report.page import template
from udc_robust.tasks.tolerance_results import COST, Results
from udc_robust.tasks.tolerance_scenes import NO_RESTORER, Bench

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B97F00", "#56B4E9")
_MARKERS = "osD^vP"


def write_results(
    results: Results, bench: Bench, psf_at: Callable[[Mapping[str, float]], Tensor], out: Path, command: str
) -> None:
    """Write ``tolerance.csv``, ``.json``, ``.png`` (curves), ``worst.png`` (pictures) and ``.html``."""
    columns = ["kind", *results.tolerances, "restorer", "scene", "psnr"]
    write_text(out / "tolerance.csv", to_csv(columns, list(results.rows())))
    write_text(out / "tolerance.json", json.dumps(results.summary(), indent=1) + "\n")
    pictures = {"tolerance.png": _curves(results), "worst.png": _pictures(results, bench, psf_at)}
    for name, figure in pictures.items():
        with atomic_path(out / name) as temporary:
            figure.savefig(temporary, dpi=150)
    page = template("tolerance.html.j2").render(
        results=results, sentence=sentence(results), words=PARAMETERS, command=portable(command), cost=COST,
        curves=_embedded(pictures["tolerance.png"]), pictures=_embedded(pictures["worst.png"]),
        scenes=[scene.key for scene in bench.scenes],
    )  # fmt: skip
    write_text(out / "tolerance.html", page)


def sentence(results: Results) -> str:
    """The worst within tolerance of the restorer that is best when all is as it should be, in one sentence."""
    best = max(results.restorers, key=results.nominal.mean)
    dearest = max(results.tolerances, key=lambda name: results.cost_of_tolerance(name, best))
    clean, left = results.nominal.mean(best), results.worst_of_all(best).mean(best)
    cost, unit = results.cost_of_tolerance(dearest, best), results.units[dearest]
    return (
        f"{best} restores {clean:.1f} dB behind {results.psf} as it should be and {left:.1f} dB behind the worst "
        f"display within tolerance; by itself {dearest} costs most, {cost:.1f} dB at "
        f"{results.tolerances[dearest]:g} {unit}."
    )


def _curves(results: Results) -> Any:
    """PSNR over each parameter, a curve a restorer; grey: within tolerance."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(3, len(results.tolerances))
    rows = -(-len(results.tolerances) // columns)
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(3.4 * columns, 2.6 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
        for axes, name in zip(panels, results.tolerances, strict=False):
            axes.axvspan(-results.tolerances[name], results.tolerances[name], color="#eeeeee")
            for i, restorer in enumerate((*results.restorers, NO_RESTORER)):
                colour = _COLOURS[i % len(_COLOURS)] if restorer != NO_RESTORER else "#888888"
                axes.plot(*zip(*results.curve(name, restorer), strict=True), color=colour, marker=_MARKERS[i % 6],
                          markersize=4, linestyle="--" if restorer == NO_RESTORER else "-", label=restorer)  # fmt: skip
            axes.set(xlabel=f"{name} ({results.units[name]})")
            axes.grid(color="#dddddd")
        for axes in list(panels):
            axes.set_axis_off()
        figure.supylabel("PSNR (dB)")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
    return figure


@torch.no_grad()
def _pictures(results: Results, bench: Bench, psf_at: Callable[[Mapping[str, float]], Tensor]) -> Any:
    """The scene that falls furthest: each restorer's answer behind the display as it should be, and the worst one."""
    import matplotlib
    from matplotlib.figure import Figure

    nominal = psf_at({})
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9.6, 2.6 * len(results.restorers)), layout="constrained")
        rows = figure.subplots(len(results.restorers), 4, squeeze=False)
        for axes, name in zip(rows, results.restorers, strict=True):
            worst = results.worst_of_all(name)
            drops = {key: results.nominal.figures[name][key] - figure for key, figure in worst.figures[name].items()}
            scene = next(one for one in bench.scenes if one.key == max(drops, key=lambda key: drops[key]))
            seen = [bench.captured(scene, psf) for psf in (nominal, psf_at(worst.values))]
            answers = [bench.restorers[name](x) for x in seen]
            figures = [one.figures[name][scene.key] for one in (results.nominal, worst)]
            shown = {
                "the scene": scene.truth[None],
                "its capture, worst display": seen[1],
                f"{name}, {figures[0]:.1f} dB": answers[0],
                f"worst display, {figures[1]:.1f} dB": answers[1],
            }
            for panel, (title, picture) in zip(axes, shown.items(), strict=True):
                panel.imshow(picture[0].cpu().permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
                panel.set_title(title, fontsize=8)
                panel.set_axis_off()
    return figure


def _embedded(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    return base64.b64encode(content.getvalue()).decode()
