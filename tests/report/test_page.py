"""The report as a file: right words and figures, escaped, self-contained, honest about what it lacks."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from fake_run import HOSTILE, photo, write_fake_run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.grid.statistics import mean_interval
from udc_robust.report import curves, gallery, tradeoff
from udc_robust.report.figures import panel_tables
from udc_robust.report.page import _judged
from udc_robust.report.run_folder import read_run
from udc_robust.report.words import number
from udc_robust.report.worst import hardest, held, strongest_outcomes, worst_by_image
from udc_robust.tasks import TASKS, write_report
from udc_robust.tasks.restoration_schema import RestorationConfig
from udc_robust.tasks.restoration_words import budget_note, drop_interval, headline

SCRIPT_BREAKER = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """All tags with their attributes, and the text outside of style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if not self._inside:
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    photos = {name: photo(i) for i, name in enumerate([HOSTILE, SCRIPT_BREAKER, "street.png"])}
    write_fake_run(
        folder, photos, name=f"study {HOSTILE}", trained=False, gallery=3,
        restorers=["nafnet_mini", HOSTILE], data=[{"kind": "pairs", "name": HOSTILE, "lq": "lq", "gt": "gt"}],
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def page(run_folder):
    path = write_report([run_folder])
    assert path == run_folder / "report.html"
    return Page(path)


def test_user_text_stays_text(page):
    names = {name for _, attrs in page.tags for name in attrs}
    assert not {name for name in names if name.startswith("on")}
    assert not [attrs for tag, attrs in page.tags if tag == "img" and attrs["src"] == "x"]
    cards = page.attributes("class").count("card pixels")
    assert cards == 6
    assert [tag for tag, _ in page.tags].count("script") == cards + 1
    assert page.text.count(HOSTILE) > 10 and SCRIPT_BREAKER in page.text


def test_page_asks_nothing_of_the_network(page):
    sources = [source for source in page.attributes("src")]
    assert sources and all(
        source.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for source in sources
    )
    links = [link for link in [*page.attributes("href"), *page.attributes("xlink:href")] if not link.startswith("#")]
    assert links and not [link for link in links if re.match(r"(?!data:)[a-z]+:|//", link)]
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy


def test_links_reach_the_tables(page, run_folder):
    links = [link for link in page.attributes("href") if link.endswith((".csv", ".json", ".yaml"))]
    assert len(links) == 5 and all((run_folder / unquote(link)).is_file() for link in links)


def test_ids_are_unique_and_references_resolve(page):
    ids = page.attributes("id")
    assert len(ids) > 30 and len(ids) == len(set(ids))
    references = [link[1:] for link in [*page.attributes("href"), *page.attributes("xlink:href")] if link[0] == "#"]
    references += [match for value in page.attributes("clip-path") for match in re.findall(r"url\(#(.+?)\)", value)]
    assert any("curves-0" in reference for reference in references) and set(references) <= set(ids)
    assert any(identifier.startswith("curves-1-") for identifier in ids)  # two plots, so they could have collided


def test_every_picture_has_an_alternative_text_and_tables_have_headers(page):
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert pictures and all(attrs.get("alt") for attrs in pictures)
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers and all(attrs.get("scope") in ("col", "row") for attrs in headers)


def test_figures_are_those_of_the_summary(page, run_folder):
    with open(run_folder / "summary.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["attack"] == "pgd" and row["norm"] == "linf"]
    assert len(rows) == 4
    for row in rows:
        assert number(float(row["psnr"])) in page.text and number(float(row["drop"])) in page.text
        assert number(float(row["noise_drop"])) in page.text
    assert "of 3 images end up worse than unrestored" in page.text


def test_headline_is_the_worst_of_the_trained_and_the_one_that_holds_most(run_folder):
    panels = list(read_run(run_folder, TASKS).panels())
    drops = {panel.label: max(outcome.summary["drop"] for outcome in hardest(panel)) for panel in panels}
    assert headline(panels, []).startswith(
        f"A perturbation of L2\N{NO-BREAK SPACE}1 takes {number(drops[HOSTILE], 1)} dB from {HOSTILE} "
    )
    panels = [replace(panel, trained=True) for panel in panels]
    assert f"takes {number(drops['nafnet_mini'], 1)} dB from nafnet_mini" in headline(panels, [])
    best = held(worst_by_image(panels[1], hardest(panels[1])[1].budget))
    assert headline(panels, []).endswith(f"There {HOSTILE} holds most: {number(best, 1)} dB are left.")


def test_a_restorer_that_does_nothing_and_loses_nothing_does_not_hold_most(run_folder):
    panels = [replace(panel, trained=True) for panel in read_run(run_folder, TASKS).panels()]
    idle = replace(panels[0], label="idle", outcomes=[_left(o, 12.0) for o in panels[0].outcomes])
    idle = replace(idle, clean_rows=[{**row, "psnr": 12.0} for row in idle.clean_rows])
    told = headline([*panels, idle], [])
    assert "idle" not in told and f"There {HOSTILE} holds most" in told


def _left(outcome, psnr):
    rows = [{**row, "psnr": psnr, "psnr_clean": psnr} for row in outcome.rows]
    return replace(outcome, summary={**outcome.summary, "psnr": psnr, "drop": 0.0}, rows=rows)


def test_warnings_tell_what_the_numbers_hide(page):
    assert "nafnet_mini: untrained, random weights" in page.text and "untrained: random weights" in page.text
    assert f"{HOSTILE}: untrained" not in page.text
    assert "LPIPS is n/a: weights of alex are not on this machine." in page.text
    assert "6 gradients were zero or not finite" in page.text
    assert "3 images are few" in page.text
    assert "tone-mapped values x/(x+0.25)" in page.text and "0.25/(x+0.25)²" in page.text


def test_minimum_norm_attack_shows_the_norm_it_needed(page):
    assert "L2\N{NO-BREAK SPACE}free" in page.text
    expected = number(0.7 / math.sqrt(3 * 40 * 40) * 255)  # the fake's L2, over 40x40x3 values
    assert f"rms {expected}" in page.text and f"at {expected} levels rms" in page.text


def test_config_on_the_page_runs_again(run_folder):
    text = (run_folder / "report.html").read_text()
    shown = yaml.safe_load(html.unescape(re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)[1]))
    assert "fingerprint" not in shown
    assert check_config(shown, RestorationConfig, "page") == read_run(run_folder, TASKS).config


def test_the_same_run_gives_the_same_bytes(run_folder, tmp_path):
    first, second = (write_report([run_folder], run_folder / f"{i}.html").read_bytes() for i in range(2))
    assert first == second


def test_without_truth_no_drop_is_claimed(tmp_path):
    write_fake_run(tmp_path / "run", truth=False, restorers=["nafnet_mini"])
    page = Page(write_report([tmp_path / "run"]))
    assert "no ground truth" in page.text and "PSNR to clean, dB" in page.text and "∞" in page.text
    assert "Noise drop, dB" not in page.text and "worse than unrestored" not in page.text
    assert not re.search(r"\bnan\b", page.text)
    panel = next(read_run(tmp_path / "run", TASKS).panels())
    assert all(drop_interval(o) is None and o.summary["drop"] is None for o in strongest_outcomes(panel))
    assert [outcome.cell.attack.label for outcome in strongest_outcomes(panel)] == ["pgd"] * 4


def test_runs_side_by_side(tmp_path, monkeypatch):
    write_fake_run(tmp_path / "before", restorers=["nafnet_mini"])
    write_fake_run(tmp_path / "after", {"other.png": photo(5)}, restorers=["nafnet_mini"])
    write_fake_run(tmp_path / "third", restorers=["nafnet_mini"], name="hardened")
    monkeypatch.chdir(tmp_path)
    path = write_report([Path("before"), Path("third")])
    assert path == Path("report.html")
    text = Page(path).text
    assert "study: nafnet_mini" in text and "hardened: nafnet_mini" in text and "same images" not in text
    text = Page(write_report([Path("before"), Path("after")], Path("both.html"))).text
    assert "study (before): nafnet_mini" in text and "study (after): nafnet_mini" in text
    assert "did not use the same images" in text


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "results.csv", "summary.csv", "timings.csv"])
def test_unfinished_run_names_the_missing_file(tmp_path, name):
    write_fake_run(tmp_path / "run", gallery=0)
    (tmp_path / "run" / name).unlink()
    with pytest.raises(UserError, match=f"{re.escape(name)} is missing; run `udc-robust evaluate`"):
        write_report([tmp_path / "run"])
    assert not (tmp_path / "run" / "report.html").exists()


def test_absent_and_damaged_folders_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="no run folder at"):
        write_report([tmp_path / "nowhere"])
    write_fake_run(tmp_path / "run", gallery=0)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        write_report([tmp_path / "run"])


def test_run_without_pictures_has_a_report(tmp_path):
    write_fake_run(tmp_path / "run", gallery=0)
    page = Page(write_report([tmp_path / "run"]))
    assert "kept no pictures" in page.text and "img" not in {tag for tag, _ in page.tags}


def test_difference_is_amplified_and_says_how_much():
    a = np.full((20, 20, 3), 100, np.float32)
    a[::2] += 3
    picture, note = gallery.difference(a, np.full_like(a, 100))
    assert note == "× 32; mean 1.5, most 3 levels"  # noqa: RUF001
    assert picture[0, 0, 0] == 128 + 32 * 3 and picture[1, 0, 0] == 128


def test_differences_come_from_the_stored_files(run_folder):
    panel = next(read_run(run_folder, TASKS).panels())
    shown, left_out = gallery.choose([panel])
    assert left_out == 0 and len(shown.images) == 3
    for card in gallery.cards([panel], shown):
        notes = {cell["title"]: cell["texts"]["input_difference"] for cell in card.cells}
        assert notes["pgd, L∞\N{NO-BREAK SPACE}4/255"] == "× 16; mean 4.0, most 4 levels"  # noqa: RUF001
        assert card.cells[card.first]["title"] in ("pgd, L∞\N{NO-BREAK SPACE}4/255", "pgd, L2\N{NO-BREAK SPACE}1")


def test_large_pictures_are_shown_smaller_and_many_are_left_out(tmp_path, monkeypatch):
    photos = {f"{i}.png": photo(i, 600) for i in range(3)}
    write_fake_run(tmp_path / "run", photos, gallery=3, restorers=["nafnet_mini"], attacks=["fgsm"], eps=["1/255"])
    panels = list(read_run(tmp_path / "run", TASKS).panels())
    shown, left_out = gallery.choose(panels)
    assert (shown.side, left_out) == (512, 0)
    card = next(gallery.cards(panels, shown))
    content = base64.b64decode(card.fixed[0].uri.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (512, 512)
    monkeypatch.setattr(gallery, "_PAGE_PIXELS", 2 * 7 * 192**2)
    shown, left_out = gallery.choose(panels)
    assert (len(shown.images), shown.side, left_out) == (2, 192, 1)
    assert "1 more images are left out" in Page(write_report([tmp_path / "run"])).text


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=30))
def test_interval_lies_in_the_data_around_its_mean(values):
    interval = mean_interval(values, draws=400)
    assert interval is not None and interval == mean_interval(values, draws=400)
    low, high = interval
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_interval_matches_theory_and_knows_its_limits():
    values = np.random.default_rng(1).normal(5, 2, 400).tolist()
    low, high = mean_interval(values)
    error = np.std(values) / 20
    assert low == pytest.approx(np.mean(values) - 1.96 * error, abs=0.03)
    assert high == pytest.approx(np.mean(values) + 1.96 * error, abs=0.03)
    assert mean_interval([1.0, 2.0]) is None and mean_interval([1.0, math.inf, 2.0]) is None


def test_numbers_for_people():
    assert [number(value) for value in (None, math.nan, math.inf, -1.234, -0.001, 2)] == [
        "n/a", "n/a", "∞", "\N{MINUS SIGN}1.23", "0.00", "2.00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "words"), [("srgb", "sRGB"), ("linear", "radiance, 0 to 500"), ("tonemapped", "0.098")]
)
def test_budget_states_its_light(domain, words):
    assert words in budget_note(domain)


def test_runs_of_older_versions_are_still_read(tmp_path):
    """Before 0.2 each task had a schema of its own: no `task`, and other names in run.json."""
    import json

    write_fake_run(tmp_path / "run", restorers=["nafnet_mini"], defences=["none", "blur"])
    now = write_report([tmp_path / "run"]).read_text(encoding="utf-8")
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    for key in ("task", "metrics"):
        del settings[key]
    for block in settings["defences"]:
        del block["role"]
    for block in settings["attacks"]:
        del block["jitter"]
    former = {"restorers": facts.pop("networks"), "lpips_reason": facts.pop("missing"), **facts}
    del former["task"]
    for about in former["restorers"].values():
        about["light"] = about.pop("domain")
    for about in former["defences"].values():
        about["ways"] = list(about["gradients"])
    for about in former["data"].values():
        del about["truth"]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "run" / "run.json").write_text(json.dumps(former))
    before = write_report([tmp_path / "run"]).read_text(encoding="utf-8")

    def figures(page):
        return re.findall(r"<td[^>]*>.*?</td>", page, re.DOTALL)

    assert figures(before) == figures(now)


def test_every_figure_of_the_tables_is_in_the_glossary_of_the_page(tmp_path):
    write_fake_run(
        tmp_path / "run", defences=["none", {"kind": "purifier", "purifier": "purifier_mini"}], eps=["4/255"]
    )
    write_fake_run(tmp_path / "lab", truth=False, restorers=["nafnet_mini"])
    panels = [panel for name in ("run", "lab") for panel in read_run(tmp_path / name, TASKS).panels()]
    page = Page(write_report([tmp_path / "run", tmp_path / "lab"], tmp_path / "page.html"))
    told = page.text[page.text.index("What the figures mean") :].lower()
    tables = [panel_tables(panel) for panel in panels]
    heads = {head for table in tables for head in [*table["heads"], *table["folded_heads"]]}
    plain = {re.split(r", | \(", head)[0].lower().replace("of 1 answers", "").strip() for head in heads}
    assert len(plain) > 14 and not {head for head in plain if head not in told}


def test_a_mean_norm_says_how_far_images_differ(tmp_path):
    write_fake_run(tmp_path / "run", {"wide.png": np.repeat(photo(0), 2, axis=1), "a.png": photo(1)}, eps=["4/255"])
    rows = panel_tables(next(read_run(tmp_path / "run", TASKS).panels()))
    (pgd,) = [r for r in rows["rows"] if r["attack"] == "pgd" and "L∞" in r["budget"]]
    least, most = (4 / 255 * math.sqrt(3 * 40 * 40 * times) for times in (1, 2))
    assert (f"{(least + most) / 2:.2f}", f"{least:.2f} to {most:.2f}") in pgd["cells"]


def test_the_size_that_breaks_is_that_of_the_broken(run_folder):
    panel = next(read_run(run_folder, TASKS).panels())
    free = next(o for o in panel.outcomes if math.isinf(o.cell.eps))
    rows = [{**row, "broken": i > 0, "l2": row["l2"] if i > 0 else 50.0} for i, row in enumerate(free.rows)]
    some = replace(free, rows=rows, summary={**free.summary, "broken": 2 / 3, "rms": 0.9})
    expected = number(0.7 / math.sqrt(3 * 40 * 40) * 255)
    assert f"breaks 2 of 3 images at {expected} levels rms" in panel.task.verdict(replace(panel, outcomes=[some]))


def test_radiance_has_no_levels(run_folder):
    panel = next(read_run(run_folder, TASKS).panels())
    linear = replace(panel, images={**panel.images, "domain": "linear"})
    assert ["levels" in str(panel_tables(one)["rows"]) for one in (panel, linear)] == [True, False]


def test_a_verdict_stands_above_its_own_victims(tmp_path, monkeypatch):
    for module, plots in ((curves, "held_plots"), (curves, "attack_plots"), (tradeoff, "tradeoff_plots")):
        monkeypatch.setattr(module, plots, lambda *_: [])
    changes = {"restorers": ["nafnet_mini"], "defences": ["none", "blur"], "attacks": ["pgd"], "gallery": 0}
    write_fake_run(tmp_path / "run", **changes)
    known = list(read_run(tmp_path / "run", TASKS).panels())
    panels = [
        replace(panel, data=data, label=f"{name}: {panel.label}", folder=tmp_path / name)
        for data in ("day", "night", "dusk") for name in "abc" if data != "dusk" or name == "b" for panel in known
    ]  # fmt: skip
    told = {table["data"]: [text[0] for text in table["verdicts"]] for table in _judged(panels, "")["tables"]}
    assert told["all 2 sets"] == ["a", "c"] and told["all 3 sets"] == told["dusk"] == ["b"]
