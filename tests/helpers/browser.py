"""The verifying page in a headless Chromium, and its server in a process of its own."""

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
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
VERIFY = (sys.executable, "-m", "mmrel_kit.cli", "label", "verify")
SURF = Triplet("person", "sit", "surfboard")
DESKTOP, PHONE = (1280, 800), (390, 844)
PAUSE = 0.3  # seconds: longer than the page's own quiet time before a key counts


def make_items(folder: Path, count: int = 6, pictures: int = 3) -> None:
    """Pictures of one colour each, and triplets about them; the first is the paper's example."""
    proposals = []
    for number in range(pictures):
        path = folder / "images" / f"vg/VG_100K/{number + 1}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (320, 240), (40 * number % 256, 90, 160)).save(path)
    for number in range(count):
        triplet = (
            SURF
            if not number
            else Triplet("man", "ride", f"horse {chr(97 + number % 26)}{number // 26}")
        )
        image_id = f"vg/VG_100K/{number * pictures // count + 1}.jpg"
        proposals.append(Proposal(image_id, "action", triplet, 0.9, None, "model", "test"))
    write_proposals(folder / "items.jsonl", proposals)


def make_command(project: Path, images: Path, port: int) -> list[str]:
    """Return the words that serve the page in a process of its own."""
    words = ["-m", "mmrel_kit.cli", "label", "verify", str(project)]
    return [sys.executable, *words, "--images", str(images), "--port", str(port)]


class Server:
    """`mmrel label verify` in a process of its own."""

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
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        self.url = next(m[1] for line in lines if (m := re.search(r"verify at (\S+)", line)))
        self.port = int(self.url.split(":")[-1].strip("/"))

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class Page:
    """One person's browser, with a profile of its own."""

    def __init__(
        self, url: str, name: str | None, size: tuple[int, int] = DESKTOP, dark: bool = False
    ) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--window-size={size[0]},{size[1]}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if size == PHONE:
            options.add_experimental_option(
                "mobileEmulation",
                {
                    "deviceMetrics": {
                        "width": size[0],
                        "height": size[1],
                        "pixelRatio": 2.0,
                        "touch": True,
                    }
                },
            )
        self.driver = webdriver.Chrome(
            options=options, service=Service(shutil.which("chromedriver"))
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        self.driver.get(url)
        self.wait(lambda: self.find("#sign-in").get_attribute("open") is not None)
        if name is not None:
            self.sign_in(name)
            self.wait(lambda: self.state in ("ready", "empty", "broken"))

    def sign_in(self, name: str, secret: str = "") -> None:
        """Fill in the dialog with the keyboard."""
        for field, text in (("name", name), ("secret", secret + "\n")):
            self.find(f"#sign-in [name={field}]").clear()
            self.find(f"#sign-in [name={field}]").send_keys(text)

    @property
    def state(self) -> str:
        """busy, ready, empty, broken or offline."""
        return str(self.find("body").get_attribute("data-state"))

    @property
    def item(self) -> int | None:
        """The item shown, or null."""
        shown = self.find("body").get_attribute("data-item")
        return int(shown) if shown else None

    @property
    def triplet(self) -> str:
        """The words shown."""
        return str(self.find("#triplet").text)

    def find(self, selector: str) -> Any:
        """An element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds."""
        WebDriverWait(self.driver, 20, 0.02).until(lambda _: condition())

    def press(self, keys: str) -> None:
        """Press keys, as fast as the browser takes them."""
        ActionChains(self.driver, duration=0).send_keys(keys).perform()

    def decide(self, key: str) -> None:
        """Press a key once the item has been seen, and wait for the next item."""
        before = self.item
        time.sleep(PAUSE)
        self.press(key)
        self.wait(lambda: self.item != before and self.state in ("ready", "empty"))

    def correct(self, **words: str) -> None:
        """Correct the item shown, by keyboard alone."""
        before = self.item
        time.sleep(PAUSE)
        self.press("c")
        self.wait(lambda: self.find("#correct").get_attribute("open") is not None)
        for name, word in words.items():
            field = self.find(f"#correct [name={name}]")
            field.clear()
            field.send_keys(word)
        self.press("\ue007")
        self.wait(lambda: self.item != before and self.state in ("ready", "empty"))

    def close(self) -> None:
        """Close the browser; nothing but loopback was asked, and nothing went wrong in its console."""
        hosts = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                hosts.add(re.match(r"(\w+:(?://[^/:]*)?)", message["params"]["request"]["url"])[1])  # type: ignore[index]
        errors = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        self.driver.quit()
        assert hosts <= {"http://127.0.0.1", "data:"}
        expected = re.compile("ERR_CONNECTION|ERR_INTERNET|status of (401|403|404|409|422)")
        assert not [error for error in errors if not expected.search(error)]
