# SPDX-License-Identifier: Apache-2.0
"""A small Hugging Face Hub on 127.0.0.1, for tests that must never reach the real one.

Two listeners, because the real clients tell them apart: the **Hub** (API, commits, `resolve`) and, on another port, the
**file store** (LFS objects, and the content-addressed store that hf_xet talks to). The handlers, one for each `@route`,
are the list of what a client asks; only what `mmrel push`, `verify` and `load_dataset` use is here.

What a test can do with it:

* `hub.rules.append(Rule("commit", "lost"))`: misbehave at one step. The steps are the names in the `@route` lines.
  kind `"500"` or any other status: answer it and do nothing else (429 and 503 carry `Retry-After`);
  `"reset"`: TCP reset before anything is done, on a download after half of the body; `"close"`: the same with a FIN;
  `"delay"`: wait `hub.delay` seconds, then act as if nothing were amiss; `"hang"`: wait as long, then hang up without
  having acted; `"lost"`: act, then close without an answer;
  `"garbled"`: act, then answer 200 with a page of HTML; `"quota"` (at `batch`): no room for any object.
* `hub.requests`: what was asked, in order; `hub.count_requests(step)` counts it.
* `hub.external`: hosts that a client with `HTTP_PROXY=hub.endpoint` tried to reach; each try is refused.
* `hub.repo("ns/name")`: commits, branches, tags, pull requests and files as they stand. Names are looked up without
  regard to case, as on the real Hub.

In a process of its own: `python -m tests.hub.loopback_hub --root DIR` prints one JSON line with the two addresses and
serves until its standard input closes; `GET /_test/state` and `POST /_test/rules` stand for the attributes above.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tests.helpers.folders import snapshot
from tests.helpers.loopback_http import Handler, Refusal, Request, Rule, Server, route
from tests.hub.xet_formats import read_shard, read_xorb

LFS_SUFFIXES = (".parquet", ".tar", ".zip", ".jpg", ".png", ".bin")
LFS_ABOVE = 10 << 20  # bytes; a smaller text file is a regular git file
PER_PAGE = 1000  # rows of a tree or of the commits in one answer
TOKEN = "hf_loopbackWriteToken"
READ_TOKEN = "hf_loopbackReadToken"
EXPIRED_TOKEN = "hf_loopbackExpiredToken"


@dataclass(frozen=True)
class Blob:
    """A file's content: size, SHA-256 (the key in the store), git id, and whether it is an LFS file."""

    size: int
    sha256: str
    oid: str
    lfs: bool


@dataclass(frozen=True)
class Commit:
    """One commit with its whole tree."""

    id: str
    parent: str | None
    title: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """A dataset repository: all commits, and the refs that point at them."""

    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, `refs/pr/N` or a full id names."""
        ids = (refs.get(revision) for refs in (self.branches, self.tags, self.pulls))
        return self.commits.get(next((found for found in ids if found), revision))

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits from `revision` back to the first, newest first."""
        commits, commit = [], self.at(revision)
        while commit:
            commits.append(commit)
            commit = self.commits.get(commit.parent or "")
        return commits

    def add(self, parent: str | None, title: str, message: str, files: dict[str, Blob]) -> Commit:
        """Store a commit; moving a ref to it is the caller's business."""
        seed = f"{self.id} {parent} {title} {message} {len(self.commits)}"
        commit = Commit(hashlib.sha1(seed.encode()).hexdigest(), parent, title, message, files)
        self.commits[commit.id] = commit
        return commit


def git_oid(content: bytes) -> str:
    """The id that git gives a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class LoopbackHub:
    """Both listeners and their common state; a context manager that starts and stops them.

    Args:
        root: A folder for the objects, so that a release of any size needs no memory.
        xet: `"http"` serves a content-addressed store on the file store's port; `"local"` hands out hf_xet's own
            `local://` store in a folder (what is sent that way can be committed, but not read back).
        multipart_above: LFS objects larger than this many bytes are taken in parts of that size.
        delay: Seconds that the fault `"delay"` lasts.
    """

    def __init__(
        self, root: Path, xet: str = "http", multipart_above: int = 1 << 40, delay: float = 6.0
    ) -> None:
        self.root, self.multipart_above, self.delay = root, multipart_above, delay
        (root / "objects").mkdir(parents=True, exist_ok=True)
        (root / "xorbs").mkdir(exist_ok=True)
        self.lock = threading.RLock()
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self.external: list[str] = []
        self.leaks: list[str] = []  # requests to the file store that carried the Hub's token
        self.closed = False
        self.max_tree_rows = PER_PAGE
        self.repos: dict[str, Repo] = {}
        self.xet_files: dict[
            str, list[tuple[str, int, int]]
        ] = {}  # SHA-256 -> (xorb, first chunk, end chunk)
        self.users = {TOKEN: "write", READ_TOKEN: "read"}
        self.namespaces = ["ns", "lab"]  # the user's own and an organisation
        self._servers = [Server(self, HubHandler), Server(self, StoreHandler)]
        # Another port alone does not make another host to huggingface_hub 1, so the name differs as well.
        self.endpoint, self.store = (
            f"http://{name}:{server.server_port}"
            for name, server in zip(("127.0.0.1", "localhost"), self._servers, strict=True)
        )
        self.xet_local = xet == "local"
        self.cas_url = f"local://{root / 'cas'}" if self.xet_local else self.store

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            ).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def count_requests(self, step: str) -> int:
        """Return how many requests of this step arrived."""
        return sum(request.step == step for request in self.requests)

    def wait_for(self, step: str, count: int = 1, seconds: float = 60.0) -> None:
        """Return once so many requests of this step have come in.

        Raises:
            TimeoutError: They did not come.
        """
        end = time.monotonic() + seconds
        while self.count_requests(step) < count:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"expected {count} requests of {step}, got {self.count_requests(step)} in {seconds:g} s"
                )
            time.sleep(0.01)

    def repo(self, repo_id: str) -> Repo:
        """The repository of that name in whatever casing.

        Raises:
            Refusal: 404 when there is none.
        """
        repo = self.repos.get(repo_id.lower())
        if repo is None:
            raise Refusal(404, "Repository not found")
        return repo

    def create(self, repo_id: str, private: bool = False) -> Repo:
        """Make a repository as the Hub does: with a first commit that holds `.gitattributes`."""
        repo = self.repos[repo_id.lower()] = Repo(repo_id, private)
        lines = "".join(
            f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
        )
        first = repo.add(
            None, "initial commit", "", {".gitattributes": self.keep(lines.encode(), lfs=False)}
        )
        repo.branches["main"] = first.id
        return repo

    def commit(
        self, repo_id: str, files: dict[str, bytes | None], title: str = "by hand"
    ) -> Commit:
        """Commit to `main` past all rules, as another person would; None removes a file."""
        with self.lock:
            repo = self.repo(repo_id)
            tree = dict(repo.history()[0].files)
            for path, content in files.items():
                tree.pop(path, None)
                if content is not None:
                    tree[path] = self.keep(content, lfs=path.endswith(LFS_SUFFIXES))
            commit = repo.add(repo.branches["main"], title, "", tree)
            repo.branches["main"] = commit.id
            return commit

    def publish(self, repo_id: str, root: Path, prefix: str = "") -> None:
        """A repository with all files of a folder, as if somebody had pushed them."""
        self.create(repo_id)
        self.commit(repo_id, {prefix + name: content for name, content in snapshot(root).items()})

    def keep(self, content: bytes, lfs: bool) -> Blob:
        """Put bytes into the store."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.object(sha256).write_bytes(content)
        return (
            self.lfs_blob(sha256, len(content))
            if lfs
            else Blob(len(content), sha256, git_oid(content), False)
        )

    def lfs_blob(self, sha256: str, size: int) -> Blob:
        """The blob of an LFS object: git knows it by its pointer file."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Blob(size, sha256, git_oid(pointer.encode()), True)

    def object(self, sha256: str) -> Path:
        """Where an object lies on the disk; one that came through Xet is put together on first use."""
        path = self.root / "objects" / sha256
        if not path.exists() and sha256 in self.xet_files:
            with self.lock, path.open("wb") as file:
                for xorb, first, end in self.xet_files[sha256]:
                    file.writelines(read_xorb(self.root / "xorbs" / xorb, first, end))
        return path

    def has(self, sha256: str) -> bool:
        """Whether an object's content has arrived."""
        return sha256 in self.xet_files or self.object(sha256).exists() or self.xet_local

    def fault(self, step: str) -> Rule | None:
        """The rule that strikes at this request, if any; counts it."""
        with self.lock:
            for rule in self.rules:
                if rule.step == step and rule.times:
                    if rule.skip:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    return rule
        return None


class HubHandler(Handler):
    """The Hub: API, commits, LFS batch, `resolve`."""

    def do_any(self) -> None:
        """As above, but requests meant for other hosts (the Hub stands as their proxy) are only written down."""
        if self.command != "CONNECT" and not self.path.startswith("http"):
            super().do_any()
            return
        self.unread, self.chunked, self.rule = (
            int(self.headers.get("Content-Length") or 0),
            False,
            None,
        )
        self.entry = Request("external", self.command, self.path)
        if not self.path.startswith(
            "http://datasets-server."
        ):  # the Hub's own; datasets does without its answer
            self.hub.external.append(f"{self.command} {self.path.split('?')[0]}")
        self.refuse(Refusal(404, "nothing but loopback is reached from here", "EntryNotFound"))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = do_any

    def readable(self, repo_id: str) -> Repo:
        """The repository, if the token may see it."""
        if self.token is not None and self.token not in self.hub.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        repo = self.hub.repo(repo_id)
        if repo.private and self.token is None:
            raise Refusal(401, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, repo_id: str, pull: bool = False) -> Repo:
        """The repository, if the token may write to it (or, for a pull request, is anybody's at all)."""
        repo, namespace = self.readable(repo_id), repo_id.split("/")[0].lower()
        if self.token is None:
            raise Refusal(401, "Invalid username or password.")
        if not pull and (
            self.hub.users[self.token] != "write" or namespace not in self.hub.namespaces
        ):
            raise Refusal(403, "You don't have the required permissions to perform this action")
        return repo

    def revision(self, repo: Repo, revision: str) -> Commit:
        """The commit at a revision."""
        commit = repo.at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def page(self, rows: list[Any]) -> None:
        """Answer one page of rows, with the address of the next."""
        start = int(self.query.get("cursor", ["0"])[0])
        end = start + self.hub.max_tree_rows
        path, query = (
            urlsplit(self.path).path,
            {k: v[0] for k, v in self.query.items() if k != "cursor"},
        )
        query["cursor"] = str(end)
        link = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        headers = (
            {"Link": f'<{self.hub.endpoint}{path}?{link}>; rel="next"'} if end < len(rows) else {}
        )
        self.answer(rows[start:end], headers=headers)

    @route("GET", "/_test/state", "test")
    def test_state(self) -> None:
        """For a hub in its own process: requests, external hosts, leaks and repositories."""
        repos = {repo.id: dataclasses.asdict(repo) for repo in self.hub.repos.values()}
        requests = [dataclasses.asdict(request) for request in self.hub.requests]
        self.answer(
            {
                "requests": requests,
                "external": self.hub.external,
                "leaks": self.hub.leaks,
                "repos": repos,
            }
        )

    @route("POST", "/_test/rules", "test")
    def test_rules(self) -> None:
        """For a hub in its own process: replace the rules."""
        self.hub.rules = [Rule(**rule) for rule in self.json()]
        self.answer({})

    @route("GET", "/api/agent-harnesses", "harnesses")
    def harnesses(self) -> None:
        """Asked once a day by huggingface_hub."""
        self.answer({"standardEnvVars": [], "harnesses": {}})

    @route("GET", "/api/whoami-v2", "whoami")
    def whoami(self) -> None:
        """Who the token belongs to and what it may do."""
        role = self.hub.users.get(self.token or "")
        if role is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        name, *orgs = self.hub.namespaces
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        self.answer(
            {"type": "user", "name": name, "orgs": [{"name": org} for org in orgs], "auth": auth}
        )

    @route("POST", "/api/repos/create", "create_repo")
    def create_repo(self) -> None:
        """Create a repository, or say where it stands."""
        asked = self.json()
        repo_id = f"{asked.get('organization') or self.hub.namespaces[0]}/{asked['name']}"
        answer = {"url": f"{self.hub.endpoint}/datasets/{repo_id}"}
        writes = self.hub.users.get(self.token or "") == "write"
        if not writes or repo_id.split("/")[0].lower() not in self.hub.namespaces:
            raise Refusal(403, "You don't have the rights to create a dataset under this namespace")
        with self.hub.lock:
            exists = repo_id.lower() in self.hub.repos
            if not exists:
                self.hub.create(
                    repo_id,
                    private=asked.get("visibility") == "private" or bool(asked.get("private")),
                )
        self.answer(
            {**answer, "error": "You already created this dataset repo"} if exists else answer,
            409 if exists else 200,
        )

    @route("POST", "/api/validate-yaml", "validate")
    def validate(self) -> None:
        """The card's YAML; only its presence is looked at."""
        missing = not self.json()["content"].startswith("---")
        self.answer(
            {"errors": [{"message": "no YAML"}] if missing else [], "warnings": []},
            400 if missing else 200,
        )

    @route("GET", "/api/datasets/{id}(?:/revision/{rev})?", "info")
    def info(self, repo_id: str, revision: str) -> None:
        """What a repository is and which files it has."""
        repo = self.readable(repo_id)
        commit = self.revision(repo, revision or "main")
        siblings = [
            {"rfilename": path, "blobId": blob.oid, "size": blob.size}
            for path, blob in commit.files.items()
        ]
        answer = {
            "id": repo.id,
            "sha": commit.id,
            "private": repo.private,
            "siblings": siblings,
            "tags": [],
        }
        self.answer({**answer, "gated": False, "disabled": False, "downloads": 0, "likes": 0})

    @route("GET", "/api/datasets/{id}/tree/{rev}(?:/{path})?", "tree")
    def tree(self, repo_id: str, revision: str, folder: str) -> None:
        """Files and folders below a folder."""
        files = self.revision(self.readable(repo_id), revision).files
        prefix = f"{folder}/" if folder else ""
        below = {path: blob for path, blob in sorted(files.items()) if path.startswith(prefix)}
        if folder and not below:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        deep = self.query.get("recursive", ["false"])[0].lower() == "true"
        folders = {
            path[: cut.start()]
            for path in below
            for cut in re.finditer("/", path)
            if cut.start() > len(prefix)
        }
        rows = [
            {"type": "directory", "path": name, "oid": git_oid(name.encode()), "size": 0}
            for name in folders
        ]
        rows += [file_row(path, blob) for path, blob in below.items()]
        self.page(
            sorted(
                (row for row in rows if deep or "/" not in row["path"][len(prefix) :]), key=by_path
            )
        )

    @route("POST", "/api/datasets/{id}/paths-info/{rev}", "paths_info")
    def paths_info(self, repo_id: str, revision: str) -> None:
        """Rows for named files; those that are not there are left out."""
        files = self.revision(self.readable(repo_id), revision).files
        paths = parse_qs(self.body().decode()).get("paths", [])
        self.answer([file_row(path, files[path]) for path in paths if path in files])

    @route("GET", "/api/datasets/{id}/refs", "refs")
    def refs(self, repo_id: str) -> None:
        """Branches, tags and pull requests."""
        repo = self.readable(repo_id)

        def rows(refs: dict[str, str], prefix: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": prefix + name, "targetCommit": target}
                for name, target in refs.items()
            ]

        pulls = {"pullRequests": rows(repo.pulls, "")}
        heads = {
            "branches": rows(repo.branches, "refs/heads/"),
            "tags": rows(repo.tags, "refs/tags/"),
        }
        self.answer({**heads, "converts": [], **pulls})

    @route("GET", "/api/datasets/{id}/commits/{rev}", "commits")
    def commits(self, repo_id: str, revision: str) -> None:
        """The history, newest first."""
        repo = self.readable(repo_id)
        self.revision(repo, revision)
        common = {"authors": [{"user": "ns"}], "date": "2026-01-01T00:00:00.000Z"}
        self.page(
            [
                {"id": c.id, "title": c.title, "message": c.message, **common}
                for c in repo.history(revision)
            ]
        )

    @route("POST", "/api/datasets/{id}/preupload/{rev}", "preupload")
    def preupload(self, repo_id: str, revision: str) -> None:
        """Which files go to LFS, which are ignored, and what stands under each path now."""
        repo, asked = self.writable(repo_id, pull="create_pr" in self.query), self.json()
        files = self.revision(repo, revision).files
        ignored = set(asked.get("gitIgnore", self._gitignore(files)).split())
        self.answer({"files": [self._mode(entry, files, ignored) for entry in asked["files"]]})

    def _gitignore(self, files: dict[str, Blob]) -> str:
        blob = files.get(".gitignore")
        return self.hub.object(blob.sha256).read_text() if blob else ""

    @staticmethod
    def _mode(entry: dict[str, Any], files: dict[str, Blob], ignored: set[str]) -> dict[str, Any]:
        lfs = entry["path"].endswith(LFS_SUFFIXES) or entry["size"] > LFS_ABOVE
        old = files.get(entry["path"])
        mode = {"uploadMode": "lfs" if lfs else "regular", "shouldIgnore": entry["path"] in ignored}
        return {"path": entry["path"], **mode, "oid": old and (old.sha256 if old.lfs else old.oid)}

    @route("POST", "/datasets/{id}.git/info/lfs/objects/batch", "batch")
    def batch(self, repo_id: str) -> None:
        """Where to send each object that is not here yet."""
        self.writable(repo_id, pull=True)
        self.answer(
            {
                "transfer": "basic",
                "objects": [self._upload(repo_id, o) for o in self.json()["objects"]],
            }
        )

    def _upload(self, repo_id: str, asked: dict[str, Any]) -> dict[str, Any]:
        oid, size, parts_of = asked["oid"], asked["size"], self.hub.multipart_above
        if self.rule and self.rule.kind == "quota":
            return {
                **asked,
                "error": {"code": 413, "message": "Storage quota exceeded for this namespace"},
            }
        if self.hub.has(oid) and not self.hub.xet_local:
            return asked
        lfs = f"{self.hub.endpoint}/datasets/{repo_id}.git/info/lfs"
        upload: dict[str, Any] = {"href": f"{self.hub.store}/objects/{oid}?signature=secret"}
        if size > parts_of:
            numbers = range(1, -(-size // parts_of) + 1)
            parts = {str(n): f"{self.hub.store}/parts/{oid}/{n}?signature=secret" for n in numbers}
            upload = {"href": f"{lfs}/complete", "header": {"chunk_size": str(parts_of), **parts}}
        return {**asked, "actions": {"upload": upload, "verify": {"href": f"{lfs}/verify"}}}

    @route("POST", "/datasets/{id}.git/info/lfs/complete", "complete")
    def complete(self, repo_id: str) -> None:
        """Put the parts of an object together."""
        asked = self.json()
        parts = [
            self.hub.root / "objects" / f"{asked['oid']}.{part['partNumber']}"
            for part in asked["parts"]
        ]
        with (self.hub.root / "objects" / asked["oid"]).open("wb") as file:
            for part in parts:
                file.write(part.read_bytes())
        self.answer({})

    @route("POST", "/datasets/{id}.git/info/lfs/verify", "verify")
    def verify(self, repo_id: str) -> None:
        """Whether an object has arrived whole; this one carries the Hub's token."""
        self.writable(repo_id, pull=True)
        asked = self.json()
        path = self.hub.object(asked["oid"])
        if not path.exists() or path.stat().st_size != asked["size"]:
            raise Refusal(404, "the object has not arrived")
        self.answer({})

    @route("GET", "/api/datasets/{id}/xet-write-token/{rev}", "xet_token")
    def xet_token(self, repo_id: str, revision: str) -> None:
        """A short-lived token for the content-addressed store."""
        self.writable(repo_id, pull="create_pr" in self.query)
        answer = {
            "casUrl": self.hub.cas_url,
            "accessToken": "xet-token",
            "exp": int(time.time()) + 3600,
        }
        names = {"Cas-Url": "casUrl", "Access-Token": "accessToken", "Token-Expiration": "exp"}
        self.answer(
            answer, headers={f"X-Xet-{name}": str(answer[key]) for name, key in names.items()}
        )

    @route("POST", "/api/datasets/{id}/commit/{rev}", "commit")
    def commit(self, repo_id: str, revision: str) -> None:
        """All or nothing: the lines of one commit, on top of the parent that its header names."""
        pull = "create_pr" in self.query
        repo = self.writable(repo_id, pull)
        header, *lines = (json.loads(line) for line in self.body().splitlines())
        with self.hub.lock:
            head, wanted = self.revision(repo, revision), header["value"].get("parentCommit")
            if wanted and wanted != head.id and not pull:
                raise Refusal(
                    412,
                    "The branch was updated since you opened this page. Please refresh and try again.",
                )
            files = dict((self.revision(repo, wanted) if wanted else head).files)
            for line in lines:
                self._apply(files, line["key"], line["value"])
            value = header["value"]
            commit = repo.add(
                wanted or head.id, value["summary"], value.get("description", ""), files
            )
            ref = f"refs/pr/{len(repo.pulls) + 1}" if pull else revision
            (repo.pulls if pull else repo.branches)[ref] = commit.id
        page = f"{self.hub.endpoint}/datasets/{repo.id}"
        opened = {"pullRequestUrl": f"{page}/discussions/{len(repo.pulls)}"} if pull else {}
        self.answer(
            {
                "success": True,
                "commitOid": commit.id,
                "commitUrl": f"{page}/commit/{commit.id}",
                **opened,
            }
        )

    def _apply(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        """One line of a commit."""
        path = value["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise Refusal(422, f"bad path {path}")
        if key == "file":
            files[path] = self.hub.keep(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            if not self.hub.has(value["oid"]):
                raise Refusal(400, f"unknown LFS object {value['oid']} for {path}")
            files[path] = self.hub.lfs_blob(value["oid"], value["size"])
        elif files.pop(path, None) is None:
            raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")

    @route("POST", "/api/datasets/{id}/tag/{rev}", "tag")
    def tag(self, repo_id: str, revision: str) -> None:
        """Name a commit, once."""
        repo, name = self.writable(repo_id), self.json()["tag"]
        with self.hub.lock:
            if name in repo.tags:
                raise Refusal(409, f"Tag {name} already exists")
            repo.tags[name] = self.revision(repo, revision).id
        self.answer({})

    @route("HEAD", "/datasets/{id}/resolve/{rev}/{path}", "head")
    @route("GET", "/datasets/{id}/resolve/{rev}/{path}", "resolve")
    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        """A file: regular ones from here, LFS ones by way of the file store."""
        commit = self.revision(self.readable(repo_id), revision)
        blob = commit.files.get(path)
        headers = {"X-Repo-Commit": commit.id}
        if blob is None:
            self.refuse(Refusal(404, f"{path} does not exist", "EntryNotFound"), headers)
        elif blob.lfs:
            known = {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
            location = f"{self.hub.store}/objects/{blob.sha256}?signature=secret"
            self.answer(
                b"", 302, {**headers, **known, "ETag": f'"{blob.oid}"', "Location": location}
            )
        else:
            self.send_object(blob.sha256, {**headers, "ETag": f'"{blob.oid}"'})


class StoreHandler(Handler):
    """The file store: LFS objects by address, xorbs and shards; it must never see the Hub's token."""

    def note(self, step: str) -> None:
        """As above, and note a token that has no business here."""
        if self.token in (TOKEN, READ_TOKEN, EXPIRED_TOKEN):
            self.hub.leaks.append(f"{self.command} {self.path}")
        super().note(step)

    @route("PUT", "/objects/{rev}", "put")
    def put(self, oid: str) -> None:
        """Take an object; it is there once all of it has come and its hash is right."""
        path, digest = self.hub.root / "objects" / oid, hashlib.sha256()
        partial = path.with_name(f"{oid}.{threading.get_ident()}.partial")
        with partial.open("wb") as file:
            for piece in self.pieces():
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != oid:
            partial.unlink()
            raise Refusal(400, f"content does not match {oid}")
        partial.rename(path)
        self.answer(b"", headers={"ETag": f'"{oid}"'})

    @route("PUT", "/parts/{rev}/{rev}", "put")
    def put_part(self, oid: str, number: str) -> None:
        """Take one part of an object."""
        (self.hub.root / "objects" / f"{oid}.{number}").write_bytes(self.body())
        self.answer(b"", headers={"ETag": f'"{oid}-{number}"'})

    @route("HEAD", "/objects/{rev}", "object")
    @route("GET", "/objects/{rev}", "object")
    def get(self, oid: str) -> None:
        """Send an object or a part of it."""
        self.send_object(oid, {"ETag": f'"{oid}"'})

    @route("POST", "/v1/xorbs/default/{rev}", "xorb")
    def xorb(self, name: str) -> None:
        """Keep a block of chunks."""
        path = self.hub.root / "xorbs" / name
        partial = path.with_name(f"{name}.{threading.get_ident()}.partial")
        with partial.open("wb") as file:
            file.writelines(self.pieces())
        partial.rename(path)
        self.answer({"was_inserted": True})

    @route("POST", "/v1/shards", "shard")
    def shard(self) -> None:
        """Learn which chunks each file is made of; refuse a file whose blocks are not here."""
        files = dict(read_shard(self.body()))
        named = {xorb for terms in files.values() for xorb, _, _ in terms}
        if any(not (self.hub.root / "xorbs" / xorb).exists() for xorb in named):
            raise Refusal(400, "a shard names a xorb that was never sent")
        self.hub.xet_files.update(files)
        self.answer({"result": 1})

    @route("POST", "/v1/telemetry", "telemetry")
    def telemetry(self) -> None:
        """hf_xet reports failed uploads to the store itself."""
        self.body()
        self.answer({})


def by_path(row: dict[str, Any]) -> str:
    """Sort key of tree rows."""
    return str(row["path"])


def file_row(path: str, blob: Blob) -> dict[str, Any]:
    """A file as tree and paths-info show it."""
    row: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    return (
        {**row, "lfs": {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}}
        if blob.lfs
        else row
    )


def main(argv: list[str] | None = None) -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description="A small Hugging Face Hub on 127.0.0.1 for tests.")
    parser.add_argument("--root", type=Path, required=True, help="folder for the objects")
    parser.add_argument(
        "--xet", choices=("http", "local"), default="http", help="what stands behind hf_xet"
    )
    args = parser.parse_args(argv)
    with LoopbackHub(args.root, xet=args.xet) as hub:
        sys.stdout.write(
            json.dumps({"endpoint": hub.endpoint, "store": hub.store, "token": TOKEN}) + "\n"
        )
        sys.stdout.flush()
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
