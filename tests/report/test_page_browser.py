"""The report in a browser: nothing fails, pictures load, slider and selector work, narrow screens do not scroll."""

from __future__ import annotations

import json
import shutil

import pytest
from fake_run import HOSTILE, write_fake_run

from udc_robust.files import shipped
from udc_robust.tasks import write_leaderboard, write_report

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium", reason="needs selenium (the dev extra)")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver on the PATH")
    from selenium import webdriver

    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield window
    window.quit()


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """The browser with the report of two runs, one of them without ground truth, hostile names in both."""
    folder = tmp_path_factory.mktemp("browser")
    write_fake_run(folder / "a", name=f"first {HOSTILE}", restorers=["nafnet_mini", HOSTILE], gallery=3)
    write_fake_run(folder / "b", truth=False, restorers=["nafnet_mini"], data=[{"kind": "folder", "lq": "lq"}])
    browser.get(write_report([folder / "a", folder / "b"], folder / "report.html").as_uri())
    return browser


def test_page_loads_whole_without_errors_or_requests(opened):
    assert opened.get_log("browser") == []
    requested = [entry["message"] for entry in opened.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert requested and not [message for message in requested if '"url":"http' in message]
    widths = opened.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 3 * 2 * 9 + 2 * 8 + 3 * 4 and min(widths) > 0


def test_slider_moves_the_border_with_the_keyboard(opened):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    clip = "return getComputedStyle(document.querySelector('.compare .over')).clipPath"
    assert opened.execute_script(clip) == "inset(0px 0px 0px 50%)"
    slider = opened.find_element(By.CSS_SELECTOR, ".compare input")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert opened.execute_script(clip) == "inset(0px 0px 0px 52%)"
    slider.send_keys(Keys.HOME)
    assert opened.execute_script(clip) == "inset(0px 0px 0px 0%)"


def test_slider_follows_the_mouse(opened):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    slider = opened.find_elements(By.CSS_SELECTOR, ".compare input")[1]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    ActionChains(opened).move_to_element_with_offset(slider, slider.size["width"] // 4, 0).click().perform()
    assert 65 <= int(slider.get_property("value")) <= 85
    cut = opened.execute_script("return arguments[0].parentElement.style.getPropertyValue('--cut')", slider)
    assert cut == slider.get_property("value") + "%"


def test_selector_changes_pictures_and_texts_of_its_card_only(opened):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    state = """return [...document.querySelectorAll('.card')].slice(0, 2).map(card => [
        ...[...card.querySelectorAll('[data-role]')].map(image => image.src),
        ...[...card.querySelectorAll('[data-text], [data-answer]')].map(text => text.textContent)])"""
    before = opened.execute_script(state)
    choice = Select(opened.find_element(By.CSS_SELECTOR, ".card select"))
    assert len(choice.options) == 9 and choice.first_selected_option.text.startswith("pgd")
    choice.select_by_index(2)
    after = opened.execute_script(state)
    assert after[1] == before[1] and len(after[0]) == len(before[0]) == 10
    stored = opened.execute_script("return JSON.parse(document.querySelector('.card script').textContent)")
    assert choice.first_selected_option.text.split() == stored[2]["title"].split()
    roles = ["attacked", "attacked_input", "input_difference", "attacked", "output_difference"]
    assert after[0][:5] == [stored[2]["pictures"][role] for role in roles]
    assert after[0][0] != before[0][0] and after[0][1] != before[0][1] and after[0][5:] != before[0][5:]
    loaded = opened.execute_async_script(
        """const done = arguments[0];
        Promise.all([...document.querySelectorAll('.card [data-role]')].map(image => image.decode()))
            .then(() => done(true), () => done(false))"""
    )
    assert loaded and opened.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_no_sideways_scrolling_and_readable_text(opened, width, scheme):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert opened.execute_script("return innerWidth") == width
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    ink = opened.execute_script("return getComputedStyle(document.querySelector('.note')).color")
    ground = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert _contrast(ink, ground) >= 4.5


def test_a_leaderboard_is_sorted_by_any_heading(browser, tmp_path):
    """Last of this file: the browser shows another page afterwards."""
    from selenium.webdriver.common.by import By

    board = json.loads((shipped("checkpoints") / "leaderboard" / "hardened.json").read_text())
    board["rows"][0]["held"] = [{**board["rows"][0]["held"][0], "eps": 0.002}]  # it met one budget only, of its own
    budgets = 1 + len(board["rows"][1]["held"])
    board["preset"] = "none"  # a preset has its budgets
    board["rows"][1]["victim"] = HOSTILE
    (tmp_path / "theirs.json").write_text(json.dumps(board))
    browser.get(write_leaderboard([tmp_path / "theirs.json"], tmp_path / "board.html").as_uri())
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False,
    })  # fmt: skip

    def victims() -> list[str]:
        cells = browser.find_elements(By.CSS_SELECTOR, ".sortable tbody th")
        return [cell.get_attribute("data-value") for cell in cells if cell.is_displayed()]

    *others, partial = victims()
    assert partial == "nafnet_mini" and others[0] == HOSTILE  # ranked at 4/255
    heads = browser.find_elements(By.CSS_SELECTOR, ".sortable th button")
    by_name, by_clean, at_largest = heads[0], heads[3], heads[3 + budgets]
    clean = {row["victim"]: row["clean"]["psnr"] for row in board["rows"]}
    by_clean.click()
    assert victims() == sorted(clean, key=lambda name: -clean[name])
    by_clean.click()
    assert victims() == sorted(clean, key=lambda name: clean[name])
    for _ in range(2):
        at_largest.click()
        assert victims()[-1] == partial  # who has no figure stands last in both orders
    by_name.click()
    assert by_name.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    assert sorted(victims()) == sorted(clean) and browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of two CSS colours (WCAG 2.1, relative luminance)."""

    def luminance(color: str) -> float:
        levels = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
