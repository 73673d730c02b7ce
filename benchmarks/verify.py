# SPDX-License-Identifier: Apache-2.0
"""Time from a key to the next item on the verifying page, in headless Chromium.

The browser's clock measures from the key's event until the picture and the words of the next item
are shown and the page accepts keys again, for 200 decisions. Needs `chromium` and `chromedriver`,
and the extras `semidc` and `browser`.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.draw_data import draw_items
from benchmarks.measuring import ROOT, Setup
from benchmarks.results import Measurement
from mmrel_kit.semidc.items import write_proposals

MAX_RUNS = 3
PAUSE = 0.3  # seconds; the page ignores keys for less than this after it shows an item
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
WATCH = """
window.times = []
addEventListener('keydown', () => { window.pressed = performance.now() }, true)
new MutationObserver(() => {
  if (document.body.dataset.state === 'ready' && window.pressed) {
    window.times.push(performance.now() - window.pressed)
    window.pressed = 0
  }
}).observe(document.body, { attributeFilter: ['data-state'] })
"""


def make_items(folder: Path, items: int, pictures: int) -> None:
    """Write `items.jsonl` and its pictures, each of one colour."""
    proposals = list(draw_items(items, pictures))
    image_ids = dict.fromkeys(proposal.image_id for proposal in proposals)
    for number, image_id in enumerate(image_ids):
        path = folder / "images" / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (320, 240), (40 * number % 256, 90, 160)).save(path)
    write_proposals(folder / "items.jsonl", proposals)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Run `mmrel label verify` for one person; yield its address."""
    command = [sys.executable, "-m", "mmrel_kit.cli", "label", "verify"]
    command += [str(folder / "project.sqlite"), "--items", str(folder / "items.jsonl")]
    command += ["--images", str(folder / "images"), "--people", "1", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield read_address(process)
        finally:
            process.terminate()


def read_address(process: subprocess.Popen[str]) -> str:
    """Return the address that the server prints.

    Raises:
        SystemExit: the server ended without an address.
    """
    for line in process.stdout or ():
        match = re.search(r"verify at (\S+)", line)
        if match:
            return match[1]
    raise SystemExit("mmrel label verify did not start")


@contextmanager
def browse(address: str) -> Iterator[Any]:
    """Open the page in a new browser; yield its driver."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, "--window-size=1280,800"):
        options.add_argument(flag)
    service = Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(address)
        yield driver
    finally:
        driver.quit()


def wait_for_item(driver: Any, before: str | None = None) -> str:
    """Wait until another item than `before` is ready, and return its number."""
    from selenium.webdriver.support.ui import WebDriverWait

    def find_item(driver: Any) -> str | None:
        body = driver.find_element("css selector", "body")
        item: str | None = body.get_attribute("data-item")
        is_ready = body.get_attribute("data-state") == "ready"
        return item if is_ready and item != before else None

    return str(WebDriverWait(driver, 20, 0.02).until(find_item))


def sign_in(driver: Any) -> None:
    """Fill in the sign-in dialog."""
    from selenium.webdriver.support.ui import WebDriverWait

    dialog = driver.find_element("css selector", "#sign-in")
    WebDriverWait(driver, 20, 0.02).until(lambda _: dialog.get_attribute("open") is not None)
    dialog.find_element("css selector", "[name=name]").send_keys("ann\n")


def time_decisions(decisions: int, pictures: int) -> list[float]:
    """Return the milliseconds from each key to the next item."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_items(folder, decisions + 1, pictures)
        with serve(folder) as address, browse(address) as driver:
            sign_in(driver)
            item = wait_for_item(driver)
            driver.execute_script(WATCH)
            for _ in range(decisions):
                time.sleep(PAUSE)
                driver.find_element("css selector", "body").send_keys("a")
                item = wait_for_item(driver, item)
            return list(driver.execute_script("return window.times"))


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield the median and the 95th percentile of each run."""
    decisions = setup.choose(200, 5)
    runs = []
    for _ in range(min(setup.runs, MAX_RUNS)):
        runs.append(sorted(time_decisions(decisions, decisions // 2)))
    medians = [statistics.median(times) for times in runs]
    yield Measurement("a decision", "median", medians, "ms", goal="at most 50")
    late = [times[int(0.95 * len(times))] for times in runs]
    yield Measurement("a decision", "95th percentile", late, "ms")
