"""`mmrel fetch`, `mmrel get`, and addresses as `mmrel build --images`, against a loopback host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset

from mmrel_kit import cli
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.sources.opening import PictureSources
from tests.helpers.fetching import (
    KINDS,
    fetch,
    list_kind,
    list_pictures,
    list_wanted,
    name_sources,
    use_hub,
)
from tests.helpers.folders import snapshot
from tests.helpers.picture_host import PictureHost
from tests.helpers.picture_replies import Fault
from tests.hub.loopback_hub import LoopbackHub

# --- Every kind of source ---


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_exactly_the_wanted_pictures(
    host: PictureHost, sources: Path, tmp_path: Path, name: str
) -> None:
    kind = KINDS[name]
    assert fetch(tmp_path / "got", sources, *name_sources(host, kind)) == 0
    expected = list_kind(sources, kind)
    assert len(expected) >= 12
    assert list_pictures(tmp_path / "got") == expected
    lines = (tmp_path / "got" / "fetched.jsonl").read_text().splitlines()
    manifest = {line["image_id"]: line for line in map(json.loads, lines)}
    assert set(manifest) == set(expected)
    for image_id, line in manifest.items():
        assert line["size"] == len(expected[image_id])
        assert set(line) == {"image_id", "url", "size", "sha256", "time"}
    assert not [entry for entry in host.requests if entry.host == "localhost" and entry.authorized]
    agents = {e.user_agent for e in host.requests if not e.path.startswith("/api/")}
    assert all(agent.startswith("mmrel/") for agent in agents)


def test_nothing_is_fetched_again(host: PictureHost, sources: Path, tmp_path: Path) -> None:
    arguments = name_sources(host, KINDS["files"])
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    before = len(host.requests)
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    assert len(host.requests) == before


def test_requests_and_bytes(host: PictureHost, sources: Path, tmp_path: Path) -> None:
    kind = KINDS["zip"]
    assert fetch(tmp_path / "got", sources, *name_sources(host, kind)) == 0
    pictures = list_kind(sources, kind)
    assert len(host.requests) == len(pictures) + 2  # a directory each, which the tail holds


def test_a_dry_run_fetches_nothing(
    host: PictureHost, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*name_sources(host, KINDS["zip"]), "--dry-run"]
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    printed = capsys.readouterr().out
    assert "GB needed" in printed
    assert f"from {host.url}/images.zip, {host.url}/images2.zip" in printed
    size = sum(map(len, list_kind(sources, KINDS["zip"]).values()))
    assert f"{size / 1e6:.1f}" in printed
    assert not (tmp_path / "got").exists()


def test_shares_make_a_whole(host: PictureHost, sources: Path, tmp_path: Path) -> None:
    arguments = name_sources(host, KINDS["files"])
    for share in ("1/3", "2/3", "3/3"):
        assert fetch(tmp_path / "got", sources, *arguments, "--shard", share) == 0
    expected = list_kind(sources, KINDS["files"])
    assert list_pictures(tmp_path / "got") == expected
    assert host.count("/vg/*.jpg", 200) == len(expected)


def test_a_second_host_gives_what_the_first_lacks(
    host: PictureHost, sources: Path, tmp_path: Path
) -> None:
    arguments = ["--domains", "real"]
    for where in ("images.zip", "vg/", "images2.zip"):
        arguments += ["--from", f"real={host.url}/{where}"]
    host.faults.append(Fault("/vg/VG_100K_2/*", "404", times=-1))
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    assert list_pictures(tmp_path / "got") == list_kind(sources, KINDS["zip"])


def test_missing_pictures_are_named(
    host: PictureHost, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--domains", "real", "--from", f"real={host.url}/images.zip"]
    assert fetch(tmp_path / "got", sources, *arguments) == 1
    printed = capsys.readouterr().err
    expected = list_kind(sources, KINDS["zip"])
    absent = [name for name in expected if name.startswith("vg/VG_100K_2/")]
    assert f"{absent[0]}: {host.url}/images.zip: it is not in the file" in printed
    assert f"{len(absent)} x {host.url}/images.zip: it is not in the file" in printed
    assert f"{len(absent)} pictures are missing" in printed
    assert f"{len(absent)} x real\n" in printed
    assert "json" in printed
    assert fetch(tmp_path / "got", sources, *arguments, "--allow-missing") == 0
    assert len(list_pictures(tmp_path / "got")) == len(expected) - len(absent)


@pytest.mark.parametrize("name", KINDS)
def test_build_reads_the_same_addresses(
    host: PictureHost, sources: Path, built: Path, tmp_path: Path, name: str
) -> None:
    kind = KINDS[name]
    others = [f"{d}={sources}" for d in ("real", "sdxl", "dalle") if d != kind.domain]
    specs = [*(source.format(url=host.url) for source in kind.sources), *others]
    job = Job(
        [sources / "json"], PictureSources(specs), tmp_path / "out", note="Noise.", shard_bytes=6000
    )
    build_release(job)
    assert snapshot(tmp_path / "out") == snapshot(built)


def test_a_host_of_all_domains_is_opened_once(
    host: PictureHost, sources: Path, built: Path, tmp_path: Path
) -> None:
    # It was opened, and its file downloaded, once for each domain.
    pictures = PictureSources([f"{host.url}/all.tar"])
    job = Job([sources / "json"], pictures, tmp_path / "out", note="Noise.", shard_bytes=6000)
    build_release(job)
    assert snapshot(tmp_path / "out") == snapshot(built)
    assert host.count("/all.tar") == 2  # its size, its content


def test_a_failed_build_keeps_what_it_fetched(
    host: PictureHost, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--annotations", str(sources / "json"), "--out", str(tmp_path / "out")]
    command += ["--images", f"sdxl={sources}", f"dalle={sources}", f"real={host.url}/vg/"]
    host.faults.append(Fault("/vg/VG_100K_2/*", "500", times=-1))
    assert cli.main(command) == 1
    assert "the answer was 500" in capsys.readouterr().err
    host.faults.clear()
    fetched = host.count("/vg/VG_100K/*", 200)
    assert cli.main(command) == 0
    assert host.count("/vg/VG_100K/*", 200) == fetched


def test_an_abbreviated_commit(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    # The Hub itself knows full commits only.
    path = "Dall-E_generated/action/00006.png"
    with LoopbackHub(tmp_path / "hub") as hub:
        use_hub(monkeypatch, hub.endpoint)
        hub.create("ns/pictures")
        commit = hub.commit("ns/pictures", {path: (sources / path).read_bytes()})
        hub.commit("ns/pictures", {path: None})
        for revision, status in ((commit.id[:7], 0), (commit.id[:6], 1), ("0000000", 1)):
            where = f"dalle=hf://datasets/ns/pictures@{revision}"
            command = ["--domains", "dalle", "--from", where, "--allow-missing"]
            assert fetch(tmp_path / revision, sources, *command) == 0
            assert len(list_pictures(tmp_path / revision)) == 1 - status
            assert ("cannot be read" in capsys.readouterr().out) == bool(status)


def test_no_signature_in_an_error(
    host: PictureHost, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A signed address lets anybody read the file.
    host.faults.append(Fault("/signed/*", "418", times=-1))
    assert fetch(tmp_path / "got", sources, *name_sources(host, KINDS["Hub zip"])) == 1
    captured = capsys.readouterr()
    assert "the answer was 418" in captured.out + captured.err
    assert "signature" not in captured.out + captured.err


# --- Questions ---


def test_unknown_wordings_are_reported(
    host: PictureHost, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(iter(list_kind(sources, KINDS["files"])))
    questions = tmp_path / "open_spatial_test.jsonl"
    question = {"image": name, "text": "Where is the cup?", "label": "on the table"}
    unreadable = {"image": name, "text": "Cup?", "label": "yes"}
    questions.write_text("".join(json.dumps(line) + "\n" for line in (question, unreadable)))
    command = ["--annotations", str(questions), "--from", f"real={host.url}/vg/"]
    assert cli.main(["fetch", str(tmp_path / "got"), *command]) == 0
    captured = capsys.readouterr()
    assert "1 lines of question files cannot be read" in captured.err
    assert "Where is the cup? -> on the table" in (tmp_path / "got" / "unparsed.txt").read_text()
    out = ["--out", str(tmp_path / "out")]
    assert cli.main(["get", *out, *command, "--domains", "real"]) == 0
    printed = capsys.readouterr().out
    assert "1 questions are left out because their lines cannot be read" in printed
    assert "kept without a triplet: 1 spatial" in printed
    assert cli.main(["get", *out, *command, "--strict"]) == 1
    assert "open_spatial_test.jsonl:1: " in capsys.readouterr().err


# --- Get ---


def test_get_is_one_command(
    host: PictureHost, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    command = ["get", "--out", "mmrel", "--annotations", "hf://datasets/ns/pictures/json"]
    for domain in ("real", "sdxl", "dalle"):
        command += ["--from", f"{domain}=hf://datasets/ns/pictures"]
    assert cli.main(command) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == 'checked; load it with: load_dataset("mmrel", "real")'
    rows = load_dataset("mmrel", "real", split="test", cache_dir=str(tmp_path / "cache"))
    assert len(rows) > 0
    assert rows[0]["image"].size
    assert list_pictures(tmp_path / "mmrel.pictures") == list_wanted(sources)
    assert (tmp_path / "mmrel.pictures" / "json").is_dir()


# --- Mistakes ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "real=pictures"], "expected DOMAIN=ADDRESS"),
        (["--from", "reel=http://h/"], "expected DOMAIN=ADDRESS"),
        (["--from", "http://h/a.zip"], "expected DOMAIN=ADDRESS"),
        (["--from", "real=ftp://h/"], "expected DOMAIN=ADDRESS"),
        (["--jobs", "0"], "expected a whole number from 1 on"),
        (["--shard", "3/2"], "expected I/N"),
        (["--domains", "reel"], "invalid choice"),
    ],
)
def test_mistyped_arguments(
    tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str], arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(SystemExit):
        fetch(tmp_path / "got", sources, *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "real=http:///a.zip"], "expected http(s)://HOST/FILE.zip"),
        (["--from", "real=http://["], "expected http(s)://HOST/FILE.zip"),
        (["--from", "real=hf://datasets/only-a-name"], "expected hf://datasets/OWNER/NAME"),
        (["--domains", "sdxl", "--from", "real=http://h/"], "add it to --domains"),
        (["--annotations", "jsno"], "jsno: expected an annotation file or a folder"),
        (["--annotations", "hf://datasets/ns/none"], "hf://datasets/ns/none: expected a dataset"),
        (["--annotations", "hf://datasets/ns/pictures/jsn"], "expected files there, found none"),
    ],
)
def test_mistaken_addresses(
    host: PictureHost, tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    assert fetch(tmp_path / "got", sources, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "got").exists()


# --- Proxies ---


def test_a_proxy_is_used_and_netrc_is_not(
    host: PictureHost, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Credentials of ~/.netrc are no business of a host of pictures.
    (tmp_path / "netrc").write_text("machine pictures.example login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", host.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    arguments = ["--domains", "real", "--from", "real=http://pictures.example/vg/"]
    fetch(tmp_path / "got", sources, *arguments)
    asked = [entry for entry in host.requests if entry.host == "pictures.example"]
    assert asked
    assert not any(entry.authorized for entry in asked)
