"""The report in a real headless Chromium, opened from disk: what a reader does, without an error
and without a request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stock import Stock

from interp_by_construction.report.html import write_report

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


def browser() -> tuple[str, str]:
    """Chromium and its driver. Skips, saying why, where they are not installed."""
    found = next(
        (
            path
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (path := shutil.which(name))
        ),
        None,
    )
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        pytest.skip(
            "no chromium and chromedriver here: install Debian's chromium, chromium-driver (`make browser` as root)"
        )
    return found, driver


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    binary, service = browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(service))
    made.set_page_load_timeout(60)
    yield made
    made.quit()


def requested(driver: Any) -> list[str]:
    """Addresses that the report's pages asked for; the browser's own start page asks for others,
    under chrome:."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [
        params["request"]["url"]
        for params in sent
        if not params["documentURL"].startswith("chrome:")
    ]


def fits_a_phone(driver: Any, address: str) -> None:
    """Nothing is cut off or pushes the page wider than a phone, and in either colour scheme the
    text stands out from the page."""
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    brightness = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        driver.get(address)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360, address
        colours = driver.execute_script(
            "const style = getComputedStyle(document.body);"
            "return [style.color, style.backgroundColor].map("
            "each => each.match(/\\d+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0) / 765)"
        )
        assert abs(colours[0] - colours[1]) > 0.6, (address, scheme)
        brightness[scheme] = colours[1]
    assert brightness["light"] > 0.8 > 0.2 > brightness["dark"], address
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
def test_a_reader_walks_from_the_plot_to_a_node(driver: Any, tmp_path: Path, stock: Stock) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    root = tmp_path / "root"
    root.mkdir()
    run = stock.viewed(root)
    shutil.copytree(run.path, root / "runs" / "sweep" / "0", ignore=shutil.ignore_patterns(".lock"))
    page = write_report(root, "sweep")

    first = page.parent / "jobs/0"
    node = next((first / "nodes/L1").iterdir())
    for each in (page, first / "index.html", first / "layers/L1.html", node):
        fits_a_phone(driver, each.as_uri())
    driver.get(page.as_uri())
    switch = driver.find_element(By.CSS_SELECTOR, "input[name=metric][value=truth]")
    switch.click()
    plots = driver.find_elements(By.CSS_SELECTOR, "[data-plot]")
    assert len(plots) == 3 and [
        plot.get_attribute("data-plot") for plot in plots if plot.is_displayed()
    ] == ["truth"]
    driver.find_element(By.CSS_SELECTOR, "input[name=metric][value=score]").click()
    point = driver.find_element(By.CSS_SELECTOR, "[data-plot=score] a.point")
    driver.execute_script("arguments[0].focus()", point)
    tip = driver.find_element(By.ID, "tip")
    assert tip.is_displayed() and "nats/token" in tip.text and "sweep/0" in tip.text
    point.find_element(By.CSS_SELECTOR, ".mark").click()
    assert driver.current_url.endswith("jobs/0/index.html")

    driver.find_element(By.LINK_TEXT, "layer 1").click()
    rows = driver.find_elements(By.CSS_SELECTOR, "#nodes tbody tr")
    aligned = [row for row in rows if row.get_attribute("data-status") == "aligned"]
    label = aligned[0].find_elements(By.CSS_SELECTOR, "td")[1].text
    search = driver.find_element(By.CSS_SELECTOR, "input[name=text]")
    search.send_keys(label)
    shown = [row for row in rows if row.is_displayed()]
    assert (
        shown == aligned[:1]
        and driver.find_element(By.TAG_NAME, "output").text == f"1 of {len(rows)} nodes"
    )
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    driver.find_element(By.XPATH, "//thead//button[text()='node']").click()
    order = [
        int(row.find_element(By.TAG_NAME, "th").text)
        for row in driver.find_elements(By.CSS_SELECTOR, "#nodes tbody tr")
    ]
    assert order == sorted(order, reverse=True) and len(order) == len(rows)
    search.send_keys(label)
    next(row for row in rows if row.is_displayed()).find_element(By.TAG_NAME, "a").click()

    assert label in driver.find_element(By.TAG_NAME, "h1").text
    excerpt = driver.find_element(By.CSS_SELECTOR, ".excerpt")
    for name in ("real", "simulated"):
        coloured = excerpt.find_elements(By.CSS_SELECTOR, f".line.{name} i[class]")
        assert coloured and all(each.is_displayed() for each in coloured)
    strongest = excerpt.find_element(By.CSS_SELECTOR, ".line.real i.p9")
    assert strongest.value_of_css_property("background-color") not in (
        "rgba(0, 0, 0, 0)",
        "transparent",
    )
    excerpt.send_keys(Keys.ARROW_LEFT)
    tip = driver.find_element(By.ID, "tip")
    assert tip.is_displayed() and "real" in tip.text and "simulated" in tip.text

    assert driver.get_log("browser") == []
    asked = requested(driver)
    assert page.as_uri() in asked and {address.partition(":")[0] for address in asked} <= {
        "file",
        "data",
    }
