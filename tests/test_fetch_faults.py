"""What comes of each fault of a host, for each kind of source: no picture is ever wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrel_kit import cli, web
from mmrel_kit.sources import hosts
from tests.helpers.fetching import (
    KINDS,
    Kind,
    fetch,
    list_kind,
    list_pictures,
    name_sources,
    use_hub,
)
from tests.helpers.hostile_zips import NAME, PICTURE, ZIPS
from tests.helpers.picture_host import PictureHost
from tests.helpers.picture_replies import Fault

pytestmark = pytest.mark.fetch

# Faults that pass: every picture comes in the end.
PASSING = (
    *("408", "429", "500", "502", "503", "504", "drop", "close", "reset", "stall", "stall-middle"),
    *("hang", "short"),
)
# Wrong bytes, which only the checks of their kind of source notice.
WRONG = ("flipped", "html", "swap")
# Faults that last: pictures come from the next host, or are named as missing.
LASTING = (
    *PASSING,
    *WRONG,
    *("401", "403", "404", "410", "416", "418", "whole", "endless", "endless-whole", "lying-range"),
    *("loop", "drip"),
)
# Addresses that a redirect must not lead to.
TARGETS = ("file:///etc/passwd", "ftp://127.0.0.1/a", "data:text/plain,x", "//", "gopher://x/", "")


def run(host: PictureHost, sources: Path, folder: Path, kind: Kind, *more: str) -> int:
    return fetch(folder, sources, *name_sources(host, kind), *more)


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("name", KINDS)
def test_a_passing_fault(
    host: PictureHost, sources: Path, tmp_path: Path, name: str, fault: str
) -> None:
    kind = KINDS[name]
    for skip in (0, 1, 5):
        host.faults.append(Fault(kind.path, fault, times=1, skip=skip, value=1))
    assert run(host, sources, tmp_path / "got", kind) == 0
    assert list_pictures(tmp_path / "got") == list_kind(sources, kind)


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("name", ["files", "zip", "deflated zip", "Hub files", "Hub zip"])
def test_wrong_bytes_once(
    host: PictureHost, sources: Path, tmp_path: Path, name: str, fault: str
) -> None:
    kind = KINDS[name]
    if fault == "swap":
        value = "json/test.jsonl" if "zip" not in name else "images2.zip"
        host.faults.append(Fault(kind.path, fault, skip=3, value=value))
    elif not (fault == "flipped" and name == "files"):  # a JPEG has no checksum
        host.faults.append(Fault(kind.path, fault, skip=3))
    assert run(host, sources, tmp_path / "got", kind) == 0
    assert list_pictures(tmp_path / "got") == list_kind(sources, kind)


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("name", KINDS)
def test_a_lasting_fault(
    host: PictureHost, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, name: str, fault: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(web, "MAX_RETRY_AFTER", 2.0)
    monkeypatch.setattr(web, "SLOWEST", 10_000_000)
    monkeypatch.setattr(hosts, "MAX_BYTES", 1 << 20)
    kind = KINDS[name]
    value = {"swap": "json/test.jsonl", "429": 1, "503": 1}.get(fault)
    host.faults.append(Fault(kind.path, fault, times=-1, skip=4, value=value))
    status = run(host, sources, tmp_path / "got", kind)
    printed = capsys.readouterr().err
    expected, got = list_kind(sources, kind), list_pictures(tmp_path / "got")
    if not (fault in ("flipped", "short") and name == "files"):
        assert got.items() <= expected.items()
    missing = len(expected) - len(got)
    assert status == (1 if missing else 0)
    if missing:
        assert f"{missing} pictures are missing" in printed
    second = kind._replace(sources=(*kind.sources, f"{kind.domain}={{url}}/"))
    host.faults[0].path = kind.path.replace("*.jpg", "VG_100K/*.jpg")
    if name not in ("files", "Hub files"):
        assert run(host, sources, tmp_path / "got", second) == 0
        assert list_pictures(tmp_path / "got") == expected


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
def test_a_redirect_that_must_not_be_followed(
    host: PictureHost, sources: Path, tmp_path: Path, name: str, target: str
) -> None:
    kind = KINDS[name]
    host.faults.append(Fault(kind.path, "redirect", times=-1, value=target))
    assert run(host, sources, tmp_path / "got", kind) == 1
    assert list_pictures(tmp_path / "got") == {}


@pytest.mark.parametrize("name", ["files", "zip", "Hub files", "Hub zip"])
def test_signed_addresses_that_expire(
    served: Path, host: PictureHost, sources: Path, tmp_path: Path, name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kind = KINDS[name]
    repositories = {"ns/pictures": served, "ns/spec": served / "spec"}
    with PictureHost(served, signed=kind.path, uses=5, repositories=repositories) as signing:
        if name.startswith("Hub"):
            use_hub(monkeypatch, signing.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert run(signing, sources, tmp_path / "got", kind) == 0
        assert list_pictures(tmp_path / "got") == list_kind(sources, kind)
        signed = [entry for entry in signing.requests if entry.path.startswith("/signed/")]
        assert signed
        assert not any(entry.authorized for entry in signed)
        assert any(entry.authorized for entry in signing.requests) == name.startswith("Hub")


def test_a_limit_of_requests(
    served: Path, sources: Path, tmp_path: Path, host: PictureHost
) -> None:
    kind = KINDS["files"]
    with PictureHost(served, limit=(10, 1.0)) as limited:
        assert run(limited, sources, tmp_path / "got", kind) == 0
        assert list_pictures(tmp_path / "got") == list_kind(sources, kind)
        assert limited.count(status=429) > 0


@pytest.mark.parametrize("changes", [1, 99])
def test_a_zip_that_changes(
    served: Path, sources: Path, tmp_path: Path, host: PictureHost, changes: int
) -> None:
    kind = KINDS["deflated zip"]
    # images2.zip is another file with another size and ETag.
    host.faults.append(Fault("/spec/data.zip", "swap", times=changes, skip=5, value="images2.zip"))
    status = run(host, sources, tmp_path / "got", kind)
    got, expected = list_pictures(tmp_path / "got"), list_kind(sources, kind)
    assert got.items() <= expected.items()
    assert status == (0 if changes == 1 else 1)


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zips(
    tmp_path: Path, host: PictureHost, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    case = ZIPS[name]
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "a.zip").write_bytes(case.make())
    questions = tmp_path / "test.jsonl"
    line = '{"image": "vg/%s", "text": "Is a cup bigger than a bus in the image?", "label": "no"}\n'
    questions.write_text(line % NAME)
    before = sorted(tmp_path.rglob("*"))
    with PictureHost(folder) as hostile:
        command = ["fetch", str(tmp_path / "got"), "--annotations", str(questions)]
        command += ["--domains", "real", "--from", f"real={hostile.url}/a.zip"]
        status = cli.main(command)
        printed = capsys.readouterr()
    if case.refusal is None:
        assert status == 0, printed.err
        assert (tmp_path / "got" / "vg" / NAME).read_bytes() == PICTURE
    else:
        assert status == 1
        refusal = case.refusal.removeprefix("a.zip: ")
        if refusal.startswith("picture ") or "pixels" in refusal:
            # A fetch looks at a picture's header only.
            refusal = "expected a JPEG, PNG, WEBP picture, got other data"
        assert refusal in printed.out + printed.err
        assert list_pictures(tmp_path / "got") == {}
    after = [path for path in sorted(tmp_path.rglob("*")) if "got" not in path.parts]
    assert after == before
