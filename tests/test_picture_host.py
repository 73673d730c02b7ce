"""The loopback host of pictures: ranges, signed addresses, limits, and each kind of fault."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download

from benchmarks.measuring import ROOT
from tests.helpers.picture_host import PictureHost
from tests.helpers.picture_replies import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = os.urandom(5000)
SIZE = len(CONTENT)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(address: str, wanted: str | None = None, method: str = "GET", **headers: str) -> Answer:
    """Send a request on a connection of its own, without following redirects."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=0.5)
    if wanted:
        headers["Range"] = wanted
    connection.request(method, parts.path + "?" + parts.query, headers=headers)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "VG_100K").mkdir()
    (tmp_path / "VG_100K" / "7.jpg").write_bytes(CONTENT)
    (tmp_path / "images.zip").write_bytes(CONTENT)
    (tmp_path / "new.zip").write_bytes(CONTENT[::-1])
    (tmp_path / "questions.json").write_text("[]")
    return tmp_path


@pytest.fixture
def host(folder: Path) -> Iterator[PictureHost]:
    with PictureHost(folder) as host:
        yield host


@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=4990-", 4990, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
        ("bytes=-9999", 0, SIZE),
        ("bytes=4000-9999", 4000, SIZE),
    ],
)
def test_ranges(host: PictureHost, wanted: str, first: int, end: int) -> None:
    answer = ask(f"{host.url}/VG_100K/7.jpg", wanted)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert answer.body == CONTENT[first:end]


@pytest.mark.parametrize("wanted", ["bytes=5000-", "bytes=-0", "bytes=9000-9999"])
def test_ranges_beyond_the_end(host: PictureHost, wanted: str) -> None:
    answer = ask(f"{host.url}/images.zip", wanted)
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


def test_whole_files(host: PictureHost) -> None:
    address = f"{host.url}/images.zip"
    whole = ask(address)
    assert (whole.status, whole.body) == (200, CONTENT)
    head = ask(address, method="HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(SIZE))
    tag = head.headers["ETag"]
    assert ask(address, "bytes=0-9", **{"If-Range": tag}).status == 206
    assert ask(address, "bytes=0-9", **{"If-Range": '"another"'}).status == 200
    assert head.headers["Last-Modified"].endswith(" GMT")
    for path in ("/none.jpg", "/VG_100K", "/../secret", "/%2e%2e/secret"):
        assert ask(host.url + path).status == 404, path


def test_log_and_connections_kept_alive(host: PictureHost) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(host.url).port)
    headers = {"Authorization": "Bearer x", "Range": "bytes=0-9", "User-Agent": "mmrel/1"}
    for _ in range(3):
        connection.request("GET", "/VG_100K/7.jpg", headers=headers)
        assert len(connection.getresponse().read()) == 10
    connection.close()
    entry = host.requests[0]
    assert (entry.path, entry.status, entry.sent) == ("/VG_100K/7.jpg", 206, 10)
    assert (entry.range, entry.authorized, entry.host) == ("bytes=0-9", True, "127.0.0.1")
    assert entry.user_agent == "mmrel/1"
    assert (host.connections, host.count("*.jpg", 206), host.sent) == (1, 3, 30)


def test_requests_at_once(folder: Path) -> None:
    with PictureHost(folder, latency=0.1) as host, ThreadPoolExecutor(8) as pool:
        start = time.monotonic()
        statuses = list(pool.map(lambda _: ask(f"{host.url}/images.zip").status, range(8)))
        assert time.monotonic() - start >= 0.1
    assert statuses == [200] * 8
    assert host.most_at_once > 1


def test_signed_addresses_expire(folder: Path) -> None:
    with PictureHost(folder, signed="*.zip", uses=2) as host:
        moved = ask(f"{host.url}/images.zip", "bytes=0-9")
        signed = moved.headers["Location"]
        assert moved.status == 302
        assert signed.startswith(host.other)
        assert [ask(signed, "bytes=0-9").status for _ in range(3)] == [206, 206, 403]
        assert ask(f"{host.url}/images.zip").headers["Location"] != signed
        assert host.requests[1].host == "localhost"
    with PictureHost(folder, signed="*.zip", seconds=0.05) as host:
        signed = ask(f"{host.url}/images.zip").headers["Location"]
        time.sleep(0.1)
        assert ask(signed).status == 403


def test_limit(folder: Path) -> None:
    with PictureHost(folder, limit=(2, 0.3), limited="*.jpg") as host:
        answers = [ask(f"{host.url}/VG_100K/7.jpg") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].headers["Retry-After"] == "1"
        assert ask(f"{host.url}/images.zip").status == 200
        time.sleep(0.3)
        assert ask(f"{host.url}/VG_100K/7.jpg").status == 200


# The kind of a fault, and what a request for 100 of the 5,000 bytes gets: a status and a body, or
# the error of Python's client.
FAULTS = {
    "403": (403, b"refused by the loopback host\n"),
    "503": (503, b"refused by the loopback host\n"),
    "html": (200, b"<!DOCTYPE html>"),
    "swap": (206, CONTENT[::-1][200:300]),
    "whole": (200, CONTENT),
    "lying-range": (206, CONTENT[200:300]),
    "endless": TimeoutError,
    "endless-whole": TimeoutError,
    "flipped": (206, CONTENT[200:250] + bytes([CONTENT[250] ^ 0xFF]) + CONTENT[251:300]),
    "short": (206, CONTENT[200:250]),
    "close": http.client.IncompleteRead,
    "reset": (http.client.IncompleteRead, ConnectionResetError),
    "stall": TimeoutError,
    "stall-middle": TimeoutError,
    "hang": TimeoutError,
    "drop": http.client.RemoteDisconnected,
    "drip": (206, CONTENT[200:300]),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(kind: str, host: PictureHost) -> None:
    value = {"swap": "new.zip", "503": 7, "drip": 500}.get(kind)
    host.faults.append(Fault("/images.zip", kind, skip=1, value=value))
    address, wanted = f"{host.url}/images.zip", "bytes=200-299"
    assert ask(address, wanted).body == CONTENT[200:300]
    expected = FAULTS[kind]
    if kind.startswith("endless"):
        with urllib.request.urlopen(urllib.request.Request(address)) as response:
            assert len(response.read(1 << 20)) == 1 << 20
            assert "Content-Length" not in response.headers
    elif not isinstance(expected, tuple) or isinstance(expected[0], type):
        with pytest.raises(expected):
            ask(address, wanted)
    else:
        status, body = expected
        answer = ask(address, wanted)
        assert answer.status == status
        assert answer.body.startswith(body)
        if kind == "503":
            assert answer.headers["Retry-After"] == "7"
        if kind == "lying-range":
            assert answer.headers["Content-Range"] == "bytes 1200-1299/5000"
    assert ask(address, wanted).body == CONTENT[200:300], "a fault occurs once"
    assert [entry.fault for entry in host.requests] == [None, kind, None]


def test_redirects(host: PictureHost) -> None:
    host.faults.append(Fault("*/7.jpg", "redirect", value="file:///etc/passwd"))
    host.faults.append(Fault("*/7.jpg", "loop", times=-1))
    address = f"{host.url}/VG_100K/7.jpg"
    assert ask(address).headers["Location"] == "file:///etc/passwd"
    assert ask(address).headers["Location"].startswith("/VG_100K/7.jpg")
    assert ask(address).status == 302


def test_closed_port(host: PictureHost) -> None:
    address = f"{host.url}/images.zip"
    with socket.create_connection(("127.0.0.1", urlsplit(host.url).port or 0)) as idle:
        ask(address)
        host.refuse_connections()
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(address)
    host.accept_connections()
    assert ask(address).status == 200


def test_a_repository_of_the_hub(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for number in range(1100):  # two pages
        (folder / "VG_100K" / f"{number}.jpg").write_bytes(b"x")
    with PictureHost(tmp_path_factory.mktemp("none"), repositories={"Ns/Name": folder}) as host:
        api = HfApi(endpoint=host.url, token="hf_secret")
        assert api.dataset_info("ns/name", revision="main").sha == "d" * 40
        listed = list(api.list_repo_tree("ns/name", repo_type="dataset", recursive=True))
        assert len(listed) == 1100 + 1 + 3
        (row,) = api.get_paths_info("ns/name", ["images.zip", "none"], repo_type="dataset")
        assert row.size == SIZE
        places = {"repo_type": "dataset", "endpoint": host.url, "local_dir": str(folder / "out")}
        for name in ("images.zip", "questions.json"):
            path = hf_hub_download("ns/name", name, token="hf_secret", **places)
            with open(path, "rb") as file:
                assert file.read() == (folder / name).read_bytes()
        with pytest.raises(OSError, match="404"):
            api.dataset_info("ns/other")
    signed = [entry for entry in host.requests if entry.path.startswith("/signed/")]
    assert signed
    assert not any(entry.authorized for entry in signed), "the token went to another host"
    assert all(entry.host == "localhost" for entry in signed)


def test_a_process_of_its_own(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.helpers.picture_host", str(folder)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split('"')[3]
        assert ask(f"{address}/images.zip").body == CONTENT
        state = ask(f"{address}/_test/state").body
        assert b'"connections": 1, "requests": 1, "sent": 5000' in state
        process.stdin.close()
    assert process.returncode == 0
