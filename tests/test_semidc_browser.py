"""The page in headless Chromium, with the server in its own process; CI runs these separately."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mmrel_kit.commands.label import run_verb
from mmrel_kit.semidc import demo
from mmrel_kit.semidc.people.store import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("selenium.webdriver", reason="pip install .[test,browser]")
from selenium.webdriver.common.by import By  # noqa: E402

from tests.helpers.browser import (  # noqa: E402
    DESKTOP,
    PAUSE,
    PHONE,
    REPOSITORY,
    Page,
    Server,
    make_command,
    make_items,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not shutil.which("chromedriver"), reason="needs Chromium: apt-get install chromium-driver"
    ),
]


def decisions(folder: Path) -> list[tuple[int, str, str, str | None]]:
    """What stands in the project file: item, annotator, verdict and the corrected relation."""
    with contextlib.closing(sqlite3.connect(folder / "project.sqlite")) as db:
        return db.execute(
            "select item, annotator, verdict, relation from standing order by place"
        ).fetchall()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts servers and pages, and ends them."""
    made: list[Any] = []

    def start(kind: type, *args: Any, **options: Any) -> Any:
        made.append(kind(*args, **options))
        return made[-1]

    yield start
    for one in reversed(made):
        one.close() if isinstance(one, Page) else one.kill()


def test_accept_correct_reject_skip_and_undo(tmp_path: Path, start: Callable[..., Any]) -> None:
    make_items(tmp_path, 5)
    page = start(Page, start(Server, tmp_path).url, "ann")
    assert page.triplet == "person sit surfboard"
    assert page.find("#question").text == "Does a person sit a surfboard in the image?"
    page.correct(relation="stand")
    page.decide("a")
    page.decide("r")
    page.decide("s")
    verdicts = ["correct", "accept", "reject", "skip"]
    assert [(item, verdict) for item, _, verdict, _ in decisions(tmp_path)] == list(
        enumerate(verdicts, 1)
    )
    assert decisions(tmp_path)[0] == (1, "ann", "correct", "stand")
    assert page.find("#progress").text == "0 of 5 settled · 4 by you"
    for back in (4, 3):
        page.decide("u")
        assert page.item == back
    assert [verdict for _, _, verdict, _ in decisions(tmp_path)] == ["correct", "accept"]
    page.decide("a")
    assert decisions(tmp_path)[-1] == (3, "ann", "accept", None)


def test_a_correction_outside_the_taxonomy_is_told_and_can_be_mended(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 2)
    page = start(Page, start(Server, tmp_path).url, "ann")
    time.sleep(PAUSE)
    page.press("c")
    field = page.find("#correct [name=relation]")
    field.clear()
    field.send_keys("stand very upright\n")
    page.wait(lambda: "no question can be asked" in page.find("#correct-error").text)
    assert decisions(tmp_path) == []
    page.press("\ue00c")  # Escape
    assert page.item == 1


def test_a_burst_of_ten_keys_decides_one_item(tmp_path: Path, start: Callable[..., Any]) -> None:
    make_items(tmp_path, 20)
    page = start(Page, start(Server, tmp_path).url, "ann")
    time.sleep(PAUSE)
    page.press("aaaaaaaaaa")
    page.wait(lambda: page.item == 2 and page.state == "ready")
    time.sleep(PAUSE)
    assert decisions(tmp_path) == [(1, "ann", "accept", None)]


def test_keys_count_for_nothing_before_the_picture_is_there(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 4, pictures=4)
    server = start(Server, tmp_path)
    page = start(Page, server.url, "ann")
    page.driver.execute_script(
        "const load = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, 'src');"
        "Object.defineProperty(HTMLImageElement.prototype, 'src', {get: load.get, set(url) "
        "{ window.release = () => load.set.call(this, url) }})"
    )
    time.sleep(PAUSE)
    page.press("a")
    page.wait(lambda: decisions(tmp_path))
    for _ in range(3):
        time.sleep(PAUSE)
        page.press("r")
        assert page.state == "busy"
    page.driver.execute_script("window.release()")
    page.wait(lambda: page.item == 2 and page.state == "ready")
    assert decisions(tmp_path) == [(1, "ann", "accept", None)]


def test_a_picture_that_is_missing_can_only_be_skipped(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 2, pictures=2)
    server = start(Server, tmp_path)
    (tmp_path / "images/vg/VG_100K/1.jpg").write_bytes(b"other")
    page = start(Page, server.url, "ann")
    assert page.state == "broken"
    time.sleep(PAUSE)
    page.press("a")
    assert decisions(tmp_path) == []
    page.decide("s")
    assert decisions(tmp_path) == [(1, "ann", "skip", None)]


def test_two_people_at_once_lose_and_double_no_item(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 12)
    server = start(Server, tmp_path, people=1)
    pages = [start(Page, server.url, name) for name in ("ann", "ben")]
    assert {page.item for page in pages} == {1, 2}
    while any(page.state != "empty" for page in pages):
        for page in pages:
            if page.state != "empty":
                page.decide("a")
    decided = decisions(tmp_path)
    assert sorted(item for item, *_ in decided) == list(range(1, 13))
    assert {name for _, name, *_ in decided} == {"ann", "ben"}


def test_a_reload_keeps_the_place(tmp_path: Path, start: Callable[..., Any]) -> None:
    make_items(tmp_path, 5)
    page = start(Page, start(Server, tmp_path).url, "ann")
    page.decide("a")
    page.decide("a")
    page.driver.refresh()
    page.wait(lambda: page.state == "ready")
    assert page.item == 3
    page.decide("u")
    assert page.item == 2


def test_offline_moments_are_bridged(tmp_path: Path, start: Callable[..., Any]) -> None:
    make_items(tmp_path, 5)
    page = start(Page, start(Server, tmp_path).url, "ann")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    time.sleep(PAUSE)
    page.press("r")
    page.wait(lambda: page.state == "offline")
    assert "unreachable" in page.find("#status").text
    time.sleep(PAUSE)
    page.press("a")  # counts for nothing: an answer is pending
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": False})
    page.wait(lambda: page.item == 2 and page.state == "ready")
    assert decisions(tmp_path) == [(1, "ann", "reject", None)]


def test_kill_9_of_the_server_loses_no_decision_and_the_page_goes_on(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 8)
    server = start(Server, tmp_path, people=1)
    page = start(Page, server.url, "ann")
    page.decide("a")
    server.kill()
    time.sleep(PAUSE)
    page.press("r")
    page.wait(lambda: page.state == "offline")
    start(Server, tmp_path, people=1, port=server.port)
    page.wait(lambda: page.item == 3 and page.state == "ready")
    assert decisions(tmp_path) == [(1, "ann", "accept", None), (2, "ann", "reject", None)]


def post(
    connection: http.client.HTTPConnection, cookie: str, path: str, body: dict[str, Any]
) -> tuple[Any, Any]:
    connection.request(
        "POST", path, json.dumps(body), {"Content-Type": "application/json", "Cookie": cookie}
    )
    response = connection.getresponse()
    assert response.status == 200
    return response, json.loads(response.read())


def work(port: list[int], name: str, kept: list[tuple[str, str]], enough: int) -> None:
    """Decide over HTTP as fast as possible; resend decisions without a response under their id."""
    cookie, decision = "", None
    while len(kept) < enough:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port[0], timeout=10)
            response, _ = post(connection, "", "/api/sign-in", {"name": name})
            cookie = response.headers["Set-Cookie"].partition(";")[0]
            while len(kept) < enough:
                if decision is None:
                    item = post(connection, cookie, "/api/next", {})[1]["item"]
                    decision = {"id": uuid.uuid4().hex, "item": item["id"], "verdict": "accept"}
                post(connection, cookie, "/api/decisions", decision)
                kept.append((name, decision["id"]))
                decision = None


def test_of_500_decisions_none_is_lost_when_the_server_is_killed_at_work(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 400)
    server = start(Server, tmp_path)
    port, kept = [server.port], list[tuple[str, str]]()
    threads = [
        threading.Thread(target=work, args=(port, name, kept, 500)) for name in ("ann", "ben")
    ]
    for thread in threads:
        thread.start()
    for stop in (100, 200, 300, 400):
        while len(kept) < stop:
            time.sleep(0.01)
        server.kill()
        server = start(Server, tmp_path)
        port[0] = server.port
    for thread in threads:
        thread.join()
    with contextlib.closing(Project(tmp_path / "project.sqlite")) as project:
        standing = [(decision.annotator, decision.id) for decision in project.decisions()]
        decided = [(decision.annotator, decision.item) for decision in project.decisions()]
    assert len(kept) >= 500
    assert set(kept) == set(standing)
    assert len(set(decided)) == len(decided) == len(standing)


def test_disagreements_are_settled_by_a_third_person(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 1, pictures=1)
    server = start(Server, tmp_path)
    ann, ben, cy = (start(Page, server.url, name) for name in ("ann", "ben", "cy"))
    ann.correct(relation="stand")
    assert ben.item == 1
    ben.decide("r")
    assert "people disagree on 1" in ben.find("#empty-text").text
    cy.find("#again").click()
    cy.wait(lambda: cy.find("#settle").is_displayed())
    cy.find("#settle").click()
    cy.wait(lambda: cy.state == "ready")
    assert cy.find("#votes").text.splitlines() == [
        "1 × corrected to person stand surfboard",
        "1 × rejected",
    ]
    cy.correct()  # takes what stands there: the correction of the other
    with contextlib.closing(Project(tmp_path / "project.sqlite")) as project:
        assert [item.id for item in project.items("settled")] == [1]
    assert decisions(tmp_path)[-1] == (1, "cy", "correct", "stand")


def judge(page: Page, truths: list[Any], corrects: bool) -> None:
    """Decide on all items by keyboard, as somebody who knows what is true in the pictures."""
    known = {(truth.image_id, " ".join(truth.triplet)) for truth in truths}
    while page.state != "empty":
        image_id = str(page.find("#picture").get_attribute("alt")).removeprefix("Picture ")
        if (image_id, page.triplet) in known:
            page.decide("a")
        elif corrects and page.triplet == "person sit surfboard":
            page.correct(relation="stand")
        else:
            page.decide("r")


def test_the_paper_s_example_from_proposal_to_score(
    tmp_path: Path, start: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    project, truths = demo.prepare_project(tmp_path)
    shutil.copyfile(tmp_path / "proposals.jsonl", tmp_path / "items.jsonl")
    server = start(Server, tmp_path)
    ann, ben = (start(Page, server.url, name) for name in ("ann", "ben"))
    judge(ann, truths, corrects=True)
    judge(ben, truths, corrects=False)
    cy = start(Page, server.url, "cy")
    cy.wait(lambda: cy.find("#settle").is_displayed())
    cy.find("#settle").click()
    cy.wait(lambda: cy.state == "ready")
    assert cy.triplet == "person sit surfboard"
    cy.correct(relation="stand")
    command = [
        sys.executable,
        "-m",
        "mmrel_kit.cli",
        "label",
        "ask",
        str(tmp_path / "project.sqlite"),
    ]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    for page in (ann, ben):
        page.find("#again").click()
        page.wait(lambda page=page: page.state == "ready")
        judge(page, truths, corrects=False)
    assert demo.finish_demo(tmp_path, project, truths, is_scripted=False, run=run_verb) == 0
    told = capfd.readouterr().out
    assert "ann / ben" in told
    assert "release: 0 problems, 0 warnings" in told
    lines = (tmp_path / "release/data/real/test.jsonl").read_text("utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["object"] == "surfboard"]
    assert [(r["question"], r["answer"]) for r in records if r["task"] == "discriminative"] == [
        ("Does a person stand a surfboard in the image?", "yes"),
        ("Does a person sit a surfboard in the image?", "no"),
    ]
    assert {(*r["verification"]["annotators"], r["verification"]["agreed"]) for r in records} == {
        ("ann", "ben", "cy", 2)
    }


def test_the_page_is_usable_without_letter_keys(tmp_path: Path, start: Callable[..., Any]) -> None:
    make_items(tmp_path, 3)
    page = start(Page, start(Server, tmp_path).url, "ann")
    page.press("?")
    page.find("#letters").click()
    page.press("\ue00c")
    time.sleep(PAUSE)
    page.press("a")
    time.sleep(PAUSE)
    assert decisions(tmp_path) == []
    button = page.find("[data-act=reject]")
    page.driver.execute_script("arguments[0].focus()", button)
    time.sleep(PAUSE)
    page.press(" ")
    page.wait(lambda: page.item == 2)
    assert page.driver.switch_to.active_element == button
    assert decisions(tmp_path) == [(1, "ann", "reject", None)]


def test_magnifying_and_moving_by_keyboard(tmp_path: Path, start: Callable[..., Any]) -> None:
    make_items(tmp_path, 1)
    page = start(Page, start(Server, tmp_path).url, "ann")
    width = "return document.getElementById('picture').getBoundingClientRect().width"
    before = page.driver.execute_script(width)
    page.press("z")
    stage = page.find("#stage")
    assert page.driver.execute_script(width) > 1.5 * before
    assert page.driver.execute_script(
        "return arguments[0].scrollWidth > arguments[0].clientWidth", stage
    )
    page.press("z")
    assert page.driver.execute_script(width) == before


CONTRAST = """
const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
const lum = c => { const [r, g, b] = c.map(linear)
  return .2126 * r + .7152 * g + .0722 * b }
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1)
  return [...canvas.getImageData(0, 0, 1, 1).data] }
const ground = e => { for (; e; e = e.parentElement) {
  const c = rgb(getComputedStyle(e).backgroundColor)
  if (c[3] === 255) return c.slice(0, 3) } return [255, 255, 255] }
return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility()
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
  const a = lum(rgb(getComputedStyle(e).color).slice(0, 3)), b = lum(ground(e))
  const name = e.tagName + ' ' + e.textContent.trim().slice(0, 30)
  return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), name] })
"""
NAMELESS = """
return [...document.querySelectorAll('button, input, img, dialog, progress')].filter(e =>
  !(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
    || e.alt || (e.labels && e.labels.length))).map(e => e.outerHTML)
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_contrast_names_and_sizes(
    tmp_path: Path, start: Callable[..., Any], size: tuple[int, int], dark: bool
) -> None:
    make_items(tmp_path, 2)
    page = start(Page, start(Server, tmp_path).url, "ann", size, dark)
    assert not [found for found in page.driver.execute_script(CONTRAST) if found[0] < 4.5]
    assert page.driver.execute_script(NAMELESS) == []
    for button in page.driver.find_elements(By.CSS_SELECTOR, ".buttons button"):
        assert button.size["height"] >= 44
        assert button.size["width"] >= 44
    wide, inner = page.driver.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert wide <= inner
    if folder := os.environ.get("SEMIDC_SCREENSHOTS"):
        page.driver.save_screenshot(
            f"{folder}/{'phone' if size == PHONE else 'desktop'}-{'dark' if dark else 'light'}.png"
        )


def test_a_shared_secret_is_needed_where_there_is_one(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    make_items(tmp_path, 2)
    server = start(Server, tmp_path, SEMIDC_SECRET="a long shared secret")
    page = start(Page, server.url, None)
    page.sign_in("ann", "wrong")
    page.wait(lambda: "not the secret" in page.find("#sign-in-error").text)
    page.sign_in("ann", "a long shared secret")
    page.wait(lambda: page.state == "ready")


def test_the_port_of_a_server_is_told_when_it_is_taken(tmp_path: Path) -> None:
    make_items(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = make_command(tmp_path / "p.sqlite", tmp_path / "images", port)
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"mmrel label verify: 127.0.0.1:{port}: cannot listen there")
