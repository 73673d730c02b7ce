# SPDX-License-Identifier: Apache-2.0
"""Pictures on a loopback host in every way in which they can be fetched."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from mmrel_kit import cli, web
from tests.helpers.folders import snapshot
from tests.helpers.picture_host import PictureHost

ROOTS = ("vg/", "SPEC/", "Dall-E_generated/")


def serve_pictures(sources: Path, folder: Path) -> Path:
    """Copy pictures to a folder: as files, in zip files as they are published, and in a tar."""
    shutil.copytree(sources, folder)
    write_zip(folder / "images.zip", folder / "vg", "VG_100K")
    write_zip(folder / "images2.zip", folder / "vg", "VG_100K_2")
    (folder / "spec").mkdir()
    write_zip(folder / "spec" / "data.zip", folder / "SPEC", "*", zipfile.ZIP_DEFLATED)
    with tarfile.open(folder / "all.tar", "w") as archive:
        for root in ROOTS:
            archive.add(folder / root, root)
    return folder


def write_zip(path: Path, root: Path, folders: str, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(root.glob(f"{folders}/**/*.*")):
            archive.write(file, file.relative_to(root))


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Make an address the Hub of this process."""
    import huggingface_hub.constants
    import huggingface_hub.hf_api

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.hf_api, "ENDPOINT", endpoint, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client retry and give up soon."""
    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(web, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(web, "CONNECT", 2.0)
    monkeypatch.setattr(web, "STALL", 0.5)


def list_pictures(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in snapshot(folder).items() if name.startswith(ROOTS)}


def list_wanted(sources: Path) -> dict[str, bytes]:
    """Return the pictures that questions are about."""
    wanted = set()
    for path in (sources / "json").glob("**/*.json*"):
        wanted |= {name for name in list_pictures(sources) if name in path.read_text("utf-8")}
    return {name: data for name, data in list_pictures(sources).items() if name in wanted}


def fetch(folder: Path, sources: Path, *arguments: str) -> int:
    command = ["fetch", str(folder), "--annotations", str(sources / "json")]
    return cli.main([*command, *arguments])


class Kind(NamedTuple):
    """A kind of source: `--from` with the address of the host for {url}, and a path of a file."""

    sources: tuple[str, ...]
    path: str
    domain: str = "real"


KINDS = {
    "files": Kind(("real={url}/vg/",), "/vg/*.jpg"),
    "zip": Kind(("real={url}/images.zip", "real={url}/images2.zip"), "/images*.zip"),
    "deflated zip": Kind(("sdxl={url}/spec/data.zip",), "/spec/data.zip", "sdxl"),
    "tar": Kind(("real={url}/all.tar",), "/all.tar"),
    "Hub files": Kind(("dalle=hf://datasets/ns/pictures/Dall-E_generated",), "*.png", "dalle"),
    "Hub zip": Kind(("sdxl=hf://datasets/ns/spec/data.zip",), "*data.zip", "sdxl"),
}


def name_sources(host: PictureHost, kind: Kind) -> list[str]:
    arguments = ["--domains", kind.domain]
    for source in kind.sources:
        arguments += ["--from", source.format(url=host.url)]
    return arguments


def list_kind(sources: Path, kind: Kind) -> dict[str, bytes]:
    """Return the wanted pictures of the domain of a kind."""
    root = dict(zip(("real", "sdxl", "dalle"), ROOTS, strict=True))[kind.domain]
    return {name: data for name, data in list_wanted(sources).items() if name.startswith(root)}
