"""The page of `mmrel label verify` in a headless Chromium, and its server in another process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal, write_proposals

REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
)
VERIFY = (sys.executable, "-m", "mmrel_kit.cli", "label", "verify")
SURF = Triplet("person", "sit", "surfboard")
DESKTOP, PHONE = (1280, 800), (390, 844)
PAUSE = 0.3  # seconds; the page ignores keys for a shorter time after it shows an item
ENTER = "\ue007"


def make_items(folder: Path, count: int = 6, pictures: int = 3) -> None:
    """Write pictures of one colour each and proposals about them; the first one is SURF."""
    proposals = []
    for number in range(pictures):
        path = folder / "images" / f"vg/VG_100K/{number + 1}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (320, 240), (40 * number % 256, 90, 160)).save(path)
    for number in range(count):
        name = f"horse {chr(ord('a') + number % 26)}{number // 26}"
        triplet = Triplet("man", "ride", name) if number else SURF
        image_id = f"vg/VG_100K/{number * pictures // count + 1}.jpg"
        proposals.append(Proposal(image_id, "action", triplet, 0.9, None, "model", "test"))
    write_proposals(folder / "items.jsonl", proposals)


def make_command(project: Path, images: Path, port: int) -> list[str]:
    """Return the command that serves the page."""
    words = ["-m", "mmrel_kit.cli", "label", "verify", str(project)]
    return [sys.executable, *words, "--images", str(images), "--port", str(port)]


class Server:
    """`mmrel label verify` in another process."""

    def __init__(self, folder: Path, people: int = 2, port: int = 0, **environment: str) -> None:
        command = make_command(folder / "project.sqlite", folder / "images", port)
        command += ["--items", str(folder / "items.jsonl"), "--people", str(people)]
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.url = self._read_url()
        self.port = int(self.url.split(":")[-1].strip("/"))

    def _read_url(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            match = re.search(r"verify at (\S+)", line)
            if match:
                return match[1]
        raise AssertionError("expected the server to print its address, got none")

    def kill(self) -> None:
        """Kill the server without a chance to clean up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class Page:
    """The browser of one person, with its own profile."""

    def __init__(
        self, url: str, name: str | None, size: tuple[int, int] = DESKTOP, dark: bool = False
    ) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        width, height = size
        for flag in (*FLAGS, f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if size == PHONE:
            screen = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": screen})
        service = Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)
        self.wait(lambda: self.find("#sign-in").get_attribute("open") is not None)
        if name is not None:
            self.sign_in(name)
            self.wait(lambda: self.state in ("ready", "empty", "broken"))

    def sign_in(self, name: str, secret: str = "") -> None:
        """Fill in the sign-in dialog by keyboard."""
        for field, text in (("name", name), ("secret", secret + "\n")):
            self.find(f"#sign-in [name={field}]").clear()
            self.find(f"#sign-in [name={field}]").send_keys(text)

    @property
    def state(self) -> str:
        """The page's state: busy, ready, empty, broken or offline."""
        return str(self.find("body").get_attribute("data-state"))

    @property
    def item(self) -> int | None:
        """The id of the item on the page, None where there is none."""
        item = self.find("body").get_attribute("data-item")
        return int(item) if item else None

    @property
    def triplet(self) -> str:
        """The triplet on the page."""
        return str(self.find("#triplet").text)

    def find(self, selector: str) -> Any:
        """Return the first element that matches a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait until a condition is true, at most 20 seconds."""
        WebDriverWait(self.driver, 20, 0.02).until(lambda _: condition())

    def press(self, keys: str) -> None:
        """Press keys without a pause."""
        ActionChains(self.driver, duration=0).send_keys(keys).perform()

    def decide(self, key: str) -> None:
        """Press a key after a pause, and wait for the next item."""
        before = self.item
        time.sleep(PAUSE)
        self.press(key)
        self.wait(lambda: self.item != before and self.state in ("ready", "empty"))

    def correct(self, **words: str) -> None:
        """Correct the item on the page by keyboard alone."""
        before = self.item
        time.sleep(PAUSE)
        self.press("c")
        self.wait(lambda: self.find("#correct").get_attribute("open") is not None)
        for name, word in words.items():
            field = self.find(f"#correct [name={name}]")
            field.clear()
            field.send_keys(word)
        self.press(ENTER)
        self.wait(lambda: self.item != before and self.state in ("ready", "empty"))

    def close(self) -> None:
        """Close the browser; check that it sent requests to the loopback alone and had no error."""
        hosts = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                host = re.match(r"\w+:(?://[^/:]*)?", url)
                assert host, url
                hosts.add(host[0])
        expected = re.compile("ERR_CONNECTION|ERR_INTERNET|status of (401|403|404|409|422)")
        errors = []
        for entry in self.driver.get_log("browser"):
            if entry["level"] == "SEVERE" and not expected.search(entry["message"]):
                errors.append(entry["message"])
        self.driver.quit()
        assert hosts <= {"http://127.0.0.1", "data:"}
        assert errors == []
