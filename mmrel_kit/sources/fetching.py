# SPDX-License-Identifier: Apache-2.0
"""Fetch pictures from hosts into a folder, which then has the layout of upstream.

Pictures are fetched side by side, each from the first host that has it, and written in one step, so
a run that was killed is continued by the next one. `fetched.jsonl` has a line for each picture:
its address, size, sha256 and time.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from io import RawIOBase
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, get_token

from mmrel_kit.files import (
    RELEASE_RULES,
    InputError,
    Value,
    delete_leftovers,
    encode_json,
    scan_json,
    write_bytes,
)
from mmrel_kit.questions.records import parse_image_path
from mmrel_kit.sources.hosts import Fetched, Host
from mmrel_kit.sources.local import PictureFolder
from mmrel_kit.web import JOBS, WebClient, WebError, get_host

MANIFEST = "fetched.jsonl"
DOWNLOADS = ".downloads"  # folder of files that are downloaded whole, deleted at the end
TRIES = 3  # for a picture whose bytes are wrong
# Requests to the Hub in five minutes: its limits are 3,000 without and 5,000 with a token.
HUB_LIMIT, HUB_LIMIT_WITH_TOKEN = 2_900, 4_800


class Miss(NamedTuple):
    """Why a host did not give a picture; `is_absent`: it does not have the picture."""

    host: str
    reason: str
    is_absent: bool = False


class OpenedHost:
    """A host that is opened when it is first needed; `closed` says why it could not be opened."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.closed: Miss | None = None
        self._is_open = False
        self._lock = asyncio.Lock()

    async def open(self, client: WebClient, folder: Path) -> bool:
        """Open the host, once; return whether it is open."""
        async with self._lock:
            if not self._is_open and not self.closed:
                try:
                    await self.host.open(client, folder)
                    self._is_open = True
                except WebError as error:
                    self.closed = Miss(self.host.where, error.reason)
                except InputError as error:
                    reason = str(error).removeprefix(f"{self.host.where}: ")
                    self.closed = Miss(self.host.where, reason)
        return self._is_open

    def find_size(self, image_id: str) -> int:
        """Return the size of a picture in bytes; 0 if it is unknown or the host is not open."""
        if not self._is_open:
            return 0
        try:
            return self.host.find_size(image_id) or 0
        except InputError:  # reported when the picture is fetched
            return 0


@dataclass
class FetchPlan:
    """What is to be fetched.

    Attributes:
        hosts: domain -> its hosts, in the order in which they are tried.
        pictures: domain -> the image ids that are wanted and are not in the folder yet.
        present: domain -> number of wanted pictures that are in the folder.
        kept: bytes of those.
        sizes: domain -> bytes of its pictures, as far as the hosts state them.
        unknown: domain -> number of pictures whose size no host states.
    """

    hosts: dict[str, list[OpenedHost]]
    pictures: dict[str, list[str]]
    present: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Number of pictures to fetch."""
        return sum(map(len, self.pictures.values()))

    def list_closed(self) -> list[Miss]:
        """Return the hosts that could not be opened."""
        hosts = dict.fromkeys(itertools.chain.from_iterable(self.hosts.values()))
        return [host.closed for host in hosts if host.closed]


@dataclass
class FetchResult:
    """What was fetched.

    Attributes:
        fetched: number of pictures by host.
        size: their bytes.
        missing: image id -> why the hosts of its domain did not give it.
    """

    fetched: Counter[str] = field(default_factory=Counter)
    size: int = 0
    missing: dict[str, list[Miss]] = field(default_factory=dict)


def make_client(jobs: int = JOBS) -> WebClient:
    """Return a client that keeps to the Hub's limits and sends it the user's token."""
    hub, token = get_host(constants.ENDPOINT), get_token()
    limit = HUB_LIMIT_WITH_TOKEN if token else HUB_LIMIT
    return WebClient(jobs, {hub: token} if token else {}, {hub: limit})


async def make_plan(
    client: WebClient, hosts: Mapping[str, Sequence[Host]], wanted: Iterable[str], folder: Path
) -> FetchPlan:
    """Look for the wanted pictures in the folder, and for the sizes of the others on the hosts.

    Pictures of domains that are not in `hosts` are left out. A picture in the folder that has not
    the size that the manifest states, as after a power failure, is deleted and fetched again.

    Raises:
        InputError: an image id is not a path below the folder.
    """
    # A host of several domains is opened once.
    opened = {host: OpenedHost(host) for host in itertools.chain.from_iterable(hosts.values())}
    by_domain = {domain: [opened[host] for host in hosts[domain]] for domain in hosts}
    plan = FetchPlan(by_domain, {domain: [] for domain in hosts})
    local = PictureFolder(folder) if folder.is_dir() else None
    stated = _read_sizes(folder / MANIFEST)
    for image_id in wanted:
        domain, _ = parse_image_path(image_id)
        if domain not in hosts:
            continue
        check_path(image_id)
        location = local.find(image_id) if local else None
        if location and location.size != stated.get(image_id, location.size):
            (folder / location.name).unlink()
            location = None
        if location:
            plan.present[domain] += 1
            plan.kept += location.size
        else:
            plan.pictures[domain].append(image_id)
    await asyncio.gather(*(_find_sizes(client, plan, domain, folder) for domain in hosts))
    return plan


def _read_sizes(manifest: Path) -> dict[str, int]:
    """Return the sizes of pictures by the manifest, if there is one; other lines are ignored."""
    sizes = {}
    for item in scan_json(manifest, rules=RELEASE_RULES) if manifest.exists() else ():
        line = item.value if isinstance(item, Value) else None
        if isinstance(line, dict) and isinstance(line.get("size"), int):
            sizes[str(line.get("image_id"))] = line["size"]
    return sizes


async def _find_sizes(client: WebClient, plan: FetchPlan, domain: str, folder: Path) -> None:
    """Open hosts of a domain until the size of each picture is known."""
    missing = plan.pictures[domain]
    for host in plan.hosts[domain]:
        if not missing:
            break
        await host.open(client, folder / DOWNLOADS)
        sizes = {image_id: host.find_size(image_id) for image_id in missing}
        plan.sizes[domain] += sum(sizes.values())
        missing = [image_id for image_id in missing if not sizes[image_id]]
    plan.unknown[domain] = len(missing)


async def fetch_pictures(
    client: WebClient,
    plan: FetchPlan,
    folder: Path,
    jobs: int = JOBS,
    advance: Callable[[int], object] = lambda size: None,
) -> FetchResult:
    """Fetch the pictures of a plan, `jobs` of each domain at once.

    `advance` is called with the size of each picture, 0 if it is missing. The order is random, so
    that processes that work in one folder fetch different pictures.

    Raises:
        OSError: a file cannot be written.
    """
    result = FetchResult()
    delete_leftovers(folder)
    tasks = []
    with open(folder / MANIFEST, "ab", buffering=0) as manifest:

        async def work(hosts: Sequence[OpenedHost], queue: list[str]) -> None:
            while queue:
                image_id = queue.pop()
                path = folder / image_id
                if path.exists():  # another process has fetched it
                    advance(0)
                    continue
                fetched = await _fetch(client, hosts, image_id, folder, result)
                if fetched:
                    await asyncio.to_thread(_save, path, image_id, fetched, manifest)
                    result.size += len(fetched.data)
                advance(len(fetched.data) if fetched else 0)

        for domain, image_ids in plan.pictures.items():
            queue = random.sample(image_ids, len(image_ids))
            for _ in range(min(jobs, len(queue))):
                tasks.append(asyncio.create_task(work(plan.hosts[domain], queue)))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    shutil.rmtree(folder / DOWNLOADS, ignore_errors=True)
    return result


async def _fetch(
    client: WebClient,
    hosts: Sequence[OpenedHost],
    image_id: str,
    folder: Path,
    result: FetchResult,
) -> Fetched | None:
    """Return a picture from the first host that has it; None if none has it."""
    misses = []
    for opened in hosts:
        if await opened.open(client, folder / DOWNLOADS):
            outcome = await _try_host(client, opened.host, image_id)
        else:
            assert opened.closed
            outcome = opened.closed
        if isinstance(outcome, Fetched):
            result.fetched[opened.host.where] += 1
            return outcome
        misses.append(outcome)
    result.missing[image_id] = misses
    return None


async def _try_host(client: WebClient, host: Host, image_id: str) -> Fetched | Miss:
    """Return a picture from a host, or why it did not give it."""
    reason = ""
    for _ in range(TRIES):
        try:
            return await host.read(client, image_id)
        except WebError as error:
            return Miss(host.where, error.reason, error.kind == "missing")
        except InputError as error:  # wrong bytes
            reason = str(error).removeprefix(f"{host.where}: ")
    return Miss(host.where, reason)


def _save(path: Path, image_id: str, fetched: Fetched, manifest: RawIOBase) -> None:
    """Write a picture; its line in the manifest comes first, so that each picture has one."""
    _append(manifest, _describe(image_id, fetched))
    write_bytes(path, fetched.data)


def _append(file: RawIOBase, line: bytes) -> None:
    """Append a line, or nothing if the disk is full."""
    size = os.fstat(file.fileno()).st_size
    if file.write(line) != len(line):
        file.truncate(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(MANIFEST))


def _describe(image_id: str, fetched: Fetched) -> bytes:
    """Return the line of the manifest."""
    line = {
        "image_id": image_id,
        "url": fetched.url,
        "size": len(fetched.data),
        "sha256": hashlib.sha256(fetched.data).hexdigest(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return encode_json(line, image_id) + b"\n"


def check_path(image_id: str) -> None:
    """Raise an `InputError` unless a path leads to a file below the folder."""
    parts = image_id.split("/")
    if not image_id.isprintable() or "\\" in image_id or {"", ".", ".."} & set(parts):
        raise InputError(f"expected the path of a picture, got {image_id[:200]!a}")
