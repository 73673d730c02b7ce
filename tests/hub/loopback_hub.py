# SPDX-License-Identifier: Apache-2.0
"""A small Hugging Face Hub on 127.0.0.1, for tests that must never reach the real one.

It has two servers on two ports, because real clients treat them differently: the **Hub** (API,
commits, `resolve`) and the **file store** (LFS objects, and the content-addressed store of hf_xet).
Each handler marked with `@route` serves one kind of request. Only the requests that `mmrel push`,
`mmrel verify` and `load_dataset` send are supported.

Tests use these attributes:

* `hub.rules.append(Rule("commit", "lost"))` makes one step fail. The steps are the names in the
  `@route` lines. The kinds of fault are:

  - `"500"` or any other status: reply with it and do nothing else; 429 and 503 carry `Retry-After`;
  - `"reset"`: close with a TCP reset before the action; on a download, after half of the body;
  - `"close"`: the same with a FIN;
  - `"delay"`: wait `hub.delay` seconds, then serve the request properly;
  - `"hang"`: wait `hub.delay` seconds, then close the connection without the action;
  - `"lost"`: perform the action, then close the connection without a reply;
  - `"garbled"`: perform the action, then reply 200 with a page of HTML;
  - `"quota"` (at `batch`): refuse every object because the storage quota is exceeded.
* `hub.requests` lists the requests in order; `hub.count_requests(step)` counts those of a step.
* `hub.external` lists the requests for other hosts of a client with `HTTP_PROXY=hub.endpoint`; each
  one is refused.
* `hub.repo("ns/name")` holds commits, branches, tags, pull requests and files. Its name is not case
  sensitive, as on the real Hub.

`python -m tests.hub.loopback_hub --root DIR` serves in another process: it prints one JSON line
with the two addresses and serves until its standard input closes. `GET /_test/state` returns the
attributes above, `POST /_test/rules` replaces the rules.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import json
import math
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
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
    """The content of a file.

    Attributes:
        size: its size in bytes.
        sha256: its SHA-256, the key in the file store.
        oid: its git id; of an LFS file, that of the pointer file.
        lfs: whether it is an LFS file.
    """

    size: int
    sha256: str
    oid: str
    lfs: bool


@dataclass(frozen=True)
class Commit:
    """A commit with the whole tree."""

    id: str
    parent: str | None
    title: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """A dataset repository: all commits, and the refs that point to them."""

    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """Return the commit of a branch, a tag, `refs/pr/N` or a full id, None where none is."""
        for refs in (self.branches, self.tags, self.pulls):
            if revision in refs:
                return self.commits.get(refs[revision])
        return self.commits.get(revision)

    def history(self, revision: str = "main") -> list[Commit]:
        """Return the commits from `revision` back to the first, newest first."""
        commits = []
        commit = self.at(revision)
        while commit:
            commits.append(commit)
            commit = self.commits.get(commit.parent or "")
        return commits

    def add(self, parent: str | None, title: str, message: str, files: dict[str, Blob]) -> Commit:
        """Store a commit without moving any ref to it."""
        seed = f"{self.id} {parent} {title} {message} {len(self.commits)}"
        commit = Commit(hashlib.sha1(seed.encode()).hexdigest(), parent, title, message, files)
        self.commits[commit.id] = commit
        return commit


def git_oid(content: bytes) -> str:
    """Return git's id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class LoopbackHub:
    """Both servers and their common state; a context manager that starts and stops them.

    Args:
        root: A folder for the objects, so that a release of any size needs no memory.
        xet: `"http"` serves a content-addressed store on the port of the file store; `"local"`
            gives clients a `local://` store of hf_xet in a folder, whose files can be committed,
            but not downloaded.
        multipart_above: LFS objects of more than this many bytes are uploaded in parts of this
            size.
        delay: Seconds of the faults `"delay"` and `"hang"`.
    """

    def __init__(
        self, root: Path, xet: str = "http", multipart_above: int = 1 << 40, delay: float = 6.0
    ) -> None:
        self.root = root
        self.multipart_above = multipart_above
        self.delay = delay
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
        # SHA-256 of a file -> its chunks: (xorb, first chunk, end chunk).
        self.xet_files: dict[str, list[tuple[str, int, int]]] = {}
        self.users = {TOKEN: "write", READ_TOKEN: "read"}
        self.namespaces = ["ns", "lab"]  # the user's own and an organisation
        self._servers = [Server(self, HubHandler), Server(self, StoreHandler)]
        # huggingface_hub 1 takes two ports of one name for one host, so the names differ as well.
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.store = f"http://localhost:{self._servers[1].server_port}"
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
        """Return once `count` requests of this step have arrived.

        Raises:
            TimeoutError: They did not arrive in time.
        """
        end = time.monotonic() + seconds
        while self.count_requests(step) < count:
            if time.monotonic() > end:
                arrived = self.count_requests(step)
                raise TimeoutError(
                    f"expected {count} requests of {step}, got {arrived} in {seconds:g} s"
                )
            time.sleep(0.01)

    def repo(self, repo_id: str) -> Repo:
        """Return the repository of a name, whatever its case.

        Raises:
            Refusal: 404 where there is none.
        """
        repo = self.repos.get(repo_id.lower())
        if repo is None:
            raise Refusal(404, "Repository not found")
        return repo

    def create(self, repo_id: str, private: bool = False) -> Repo:
        """Create a repository with a first commit of `.gitattributes`, as the Hub does."""
        repo = Repo(repo_id, private)
        attributes = ""
        for suffix in LFS_SUFFIXES:
            attributes += f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n"
        files = {".gitattributes": self.keep(attributes.encode(), lfs=False)}
        repo.branches["main"] = repo.add(None, "initial commit", "", files).id
        self.repos[repo_id.lower()] = repo
        return repo

    def commit(
        self, repo_id: str, files: dict[str, bytes | None], title: str = "by hand"
    ) -> Commit:
        """Commit to `main` as another person would, without any rule; None deletes a file."""
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
        """Create a repository and commit all files of a folder."""
        self.create(repo_id)
        self.commit(repo_id, {prefix + name: content for name, content in snapshot(root).items()})

    def keep(self, content: bytes, lfs: bool) -> Blob:
        """Store bytes and return their blob."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.object(sha256).write_bytes(content)
        if lfs:
            return self.lfs_blob(sha256, len(content))
        return Blob(len(content), sha256, git_oid(content), lfs=False)

    def lfs_blob(self, sha256: str, size: int) -> Blob:
        """Return the blob of an LFS object; its git id is that of the pointer file."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Blob(size, sha256, git_oid(pointer.encode()), True)

    def object(self, sha256: str) -> Path:
        """Return the path of an object; an object sent by Xet is assembled at its first use."""
        path = self.root / "objects" / sha256
        if not path.exists() and sha256 in self.xet_files:
            with self.lock, path.open("wb") as file:
                for xorb, first, end in self.xet_files[sha256]:
                    file.writelines(read_xorb(self.root / "xorbs" / xorb, first, end))
        return path

    def has(self, sha256: str) -> bool:
        """Return whether the content of an object has arrived."""
        return sha256 in self.xet_files or self.object(sha256).exists() or self.xet_local

    def take_rule(self, step: str) -> Rule | None:
        """Return the rule that applies to a request of this step, and count its use."""
        with self.lock:
            for rule in self.rules:
                if rule.step != step or rule.times == 0:
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                return rule
        return None


class HubHandler(Handler):
    """The Hub: API, commits, LFS batch, `resolve`."""

    def do_any(self) -> None:
        """Serve a request; record and refuse one for another host, whose proxy the Hub is."""
        if self.command != "CONNECT" and not self.path.startswith("http"):
            super().do_any()
            return
        self.unread = int(self.headers.get("Content-Length") or 0)
        self.chunked = False
        self.rule = None
        self.entry = Request("external", self.command, self.path)
        # datasets asks this server of the real Hub, and does without its reply.
        if not self.path.startswith("http://datasets-server."):
            self.hub.external.append(f"{self.command} {self.path.split('?')[0]}")
        self.refuse(Refusal(404, "other hosts cannot be reached from here", "EntryNotFound"))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = do_any

    def readable(self, repo_id: str) -> Repo:
        """Return the repository if the token may read it."""
        if self.token is not None and self.token not in self.hub.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        repo = self.hub.repo(repo_id)
        if repo.private and self.token is None:
            raise Refusal(401, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, repo_id: str, pull: bool = False) -> Repo:
        """Return the repository if the token may write to it; a pull request needs any token."""
        repo = self.readable(repo_id)
        if self.token is None:
            raise Refusal(401, "Invalid username or password.")
        if not pull and not self.may_write(repo_id):
            raise Refusal(403, "You don't have the required permissions to perform this action")
        return repo

    def may_write(self, repo_id: str) -> bool:
        """Return whether the token may write to a repository of this name."""
        namespace = repo_id.split("/")[0].lower()
        return self.hub.users.get(self.token or "") == "write" and namespace in self.hub.namespaces

    def revision(self, repo: Repo, revision: str) -> Commit:
        """Return the commit of a revision."""
        commit = repo.at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def page(self, rows: list[Any]) -> None:
        """Send one page of rows, with the address of the next page."""
        query = {name: values[0] for name, values in self.query.items()}
        start = int(query.get("cursor", "0"))
        end = start + self.hub.max_tree_rows
        headers = {}
        if end < len(rows):
            query["cursor"] = str(end)
            parameters = "&".join(f"{name}={quote(value)}" for name, value in query.items())
            address = f"{self.hub.endpoint}{urlsplit(self.path).path}?{parameters}"
            headers["Link"] = f'<{address}>; rel="next"'
        self.answer(rows[start:end], headers=headers)

    @route("GET", "/_test/state", "test")
    def test_state(self) -> None:
        """Send the state of a Hub in another process."""
        state = {
            "requests": [dataclasses.asdict(request) for request in self.hub.requests],
            "external": self.hub.external,
            "leaks": self.hub.leaks,
            "repos": {repo.id: dataclasses.asdict(repo) for repo in self.hub.repos.values()},
        }
        self.answer(state)

    @route("POST", "/_test/rules", "test")
    def test_rules(self) -> None:
        """Replace the rules of a Hub in another process."""
        self.hub.rules = [Rule(**rule) for rule in self.json()]
        self.answer({})

    @route("GET", "/api/agent-harnesses", "harnesses")
    def harnesses(self) -> None:
        """Send the list that huggingface_hub requests once a day."""
        self.answer({"standardEnvVars": [], "harnesses": {}})

    @route("GET", "/api/whoami-v2", "whoami")
    def whoami(self) -> None:
        """Send the owner of the token and its role."""
        role = self.hub.users.get(self.token or "")
        if role is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        name, *orgs = self.hub.namespaces
        user = {
            "type": "user",
            "name": name,
            "orgs": [{"name": org} for org in orgs],
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}},
        }
        self.answer(user)

    @route("POST", "/api/repos/create", "create_repo")
    def create_repo(self) -> None:
        """Create a repository; reply 409 with its address where it exists."""
        wanted = self.json()
        repo_id = f"{wanted.get('organization') or self.hub.namespaces[0]}/{wanted['name']}"
        if not self.may_write(repo_id):
            raise Refusal(403, "You don't have the rights to create a dataset under this namespace")
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        address = {"url": f"{self.hub.endpoint}/datasets/{repo_id}"}
        with self.hub.lock:
            exists = repo_id.lower() in self.hub.repos
            if not exists:
                self.hub.create(repo_id, private)
        if exists:
            self.answer({**address, "error": "You already created this dataset repo"}, 409)
        else:
            self.answer(address)

    @route("POST", "/api/validate-yaml", "validate")
    def validate(self) -> None:
        """Check that a card has YAML, whatever is in it."""
        if self.json()["content"].startswith("---"):
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"errors": [{"message": "no YAML"}], "warnings": []}, 400)

    @route("GET", "/api/datasets/{id}(?:/revision/{rev})?", "info")
    def info(self, repo_id: str, revision: str) -> None:
        """Send the description of a repository and the list of its files."""
        repo = self.readable(repo_id)
        commit = self.revision(repo, revision or "main")
        siblings = []
        for path, blob in commit.files.items():
            siblings.append({"rfilename": path, "blobId": blob.oid, "size": blob.size})
        description = {
            "id": repo.id,
            "sha": commit.id,
            "private": repo.private,
            "siblings": siblings,
            "tags": [],
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
        }
        self.answer(description)

    @route("GET", "/api/datasets/{id}/tree/{rev}(?:/{path})?", "tree")
    def tree(self, repo_id: str, revision: str, folder: str) -> None:
        """Send the files and folders in a folder, or all below it (`recursive=true`)."""
        files = self.revision(self.readable(repo_id), revision).files
        prefix = f"{folder}/" if folder else ""
        rows: dict[str, dict[str, Any]] = {}
        for path, blob in files.items():
            if path.startswith(prefix):
                rows[path] = file_row(path, blob)
                for parent in PurePosixPath(path.removeprefix(prefix)).parents[:-1]:
                    name = f"{prefix}{parent}"
                    rows[name] = folder_row(name)
        if folder and not rows:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            rows = {path: row for path, row in rows.items() if "/" not in path.removeprefix(prefix)}
        self.page([rows[path] for path in sorted(rows)])

    @route("POST", "/api/datasets/{id}/paths-info/{rev}", "paths_info")
    def paths_info(self, repo_id: str, revision: str) -> None:
        """Send the rows of named files, without those that do not exist."""
        files = self.revision(self.readable(repo_id), revision).files
        paths = parse_qs(self.body().decode()).get("paths", [])
        self.answer([file_row(path, files[path]) for path in paths if path in files])

    @route("GET", "/api/datasets/{id}/refs", "refs")
    def refs(self, repo_id: str) -> None:
        """Send branches, tags and pull requests."""
        repo = self.readable(repo_id)
        refs = {
            "branches": ref_rows(repo.branches, "refs/heads/"),
            "tags": ref_rows(repo.tags, "refs/tags/"),
            "converts": [],
            "pullRequests": ref_rows(repo.pulls, ""),
        }
        self.answer(refs)

    @route("GET", "/api/datasets/{id}/commits/{rev}", "commits")
    def commits(self, repo_id: str, revision: str) -> None:
        """Send the history, newest commit first."""
        repo = self.readable(repo_id)
        self.revision(repo, revision)
        rows = []
        for commit in repo.history(revision):
            row = {
                "id": commit.id,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": "ns"}],
                "date": "2026-01-01T00:00:00.000Z",
            }
            rows.append(row)
        self.page(rows)

    @route("POST", "/api/datasets/{id}/preupload/{rev}", "preupload")
    def preupload(self, repo_id: str, revision: str) -> None:
        """Send for each file whether it goes to LFS, whether it is ignored, and its present id."""
        repo = self.writable(repo_id, pull="create_pr" in self.query)
        files = self.revision(repo, revision).files
        wanted = self.json()
        ignored = wanted.get("gitIgnore", self._gitignore(files)).split()
        modes = []
        for entry in wanted["files"]:
            path = entry["path"]
            lfs = path.endswith(LFS_SUFFIXES) or entry["size"] > LFS_ABOVE
            mode = {
                "path": path,
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": path in ignored,
                "oid": None,
            }
            if path in files:
                mode["oid"] = files[path].sha256 if files[path].lfs else files[path].oid
            modes.append(mode)
        self.answer({"files": modes})

    def _gitignore(self, files: dict[str, Blob]) -> str:
        if ".gitignore" not in files:
            return ""
        return self.hub.object(files[".gitignore"].sha256).read_text()

    @route("POST", "/datasets/{id}.git/info/lfs/objects/batch", "batch")
    def batch(self, repo_id: str) -> None:
        """Send the upload address of each object that has not arrived yet."""
        self.writable(repo_id, pull=True)
        objects = [self._describe_upload(repo_id, entry) for entry in self.json()["objects"]]
        self.answer({"transfer": "basic", "objects": objects})

    def _describe_upload(self, repo_id: str, entry: dict[str, Any]) -> dict[str, Any]:
        oid = entry["oid"]
        if self.rule and self.rule.kind == "quota":
            error = {"code": 413, "message": "Storage quota exceeded for this namespace"}
            return {**entry, "error": error}
        if self.hub.has(oid) and not self.hub.xet_local:
            return entry
        lfs = f"{self.hub.endpoint}/datasets/{repo_id}.git/info/lfs"
        part_size = self.hub.multipart_above
        upload: dict[str, Any] = {"href": f"{self.hub.store}/objects/{oid}?signature=secret"}
        if entry["size"] > part_size:
            header = {"chunk_size": str(part_size)}
            for number in range(1, math.ceil(entry["size"] / part_size) + 1):
                header[str(number)] = f"{self.hub.store}/parts/{oid}/{number}?signature=secret"
            upload = {"href": f"{lfs}/complete", "header": header}
        return {**entry, "actions": {"upload": upload, "verify": {"href": f"{lfs}/verify"}}}

    @route("POST", "/datasets/{id}.git/info/lfs/complete", "complete")
    def complete(self, repo_id: str) -> None:
        """Join the parts of an object."""
        upload = self.json()
        objects = self.hub.root / "objects"
        with (objects / upload["oid"]).open("wb") as file:
            for part in upload["parts"]:
                file.write((objects / f"{upload['oid']}.{part['partNumber']}").read_bytes())
        self.answer({})

    @route("POST", "/datasets/{id}.git/info/lfs/verify", "verify")
    def verify(self, repo_id: str) -> None:
        """Confirm that an object has arrived whole; the request carries the Hub's token."""
        self.writable(repo_id, pull=True)
        upload = self.json()
        path = self.hub.object(upload["oid"])
        if not path.exists() or path.stat().st_size != upload["size"]:
            raise Refusal(404, "the object has not arrived")
        self.answer({})

    @route("GET", "/api/datasets/{id}/xet-write-token/{rev}", "xet_token")
    def xet_token(self, repo_id: str, revision: str) -> None:
        """Send a short-lived token for the content-addressed store, as JSON and as headers."""
        self.writable(repo_id, pull="create_pr" in self.query)
        expires = int(time.time()) + 3600
        access = {"casUrl": self.hub.cas_url, "accessToken": "xet-token", "exp": expires}
        headers = {
            "X-Xet-Cas-Url": self.hub.cas_url,
            "X-Xet-Access-Token": "xet-token",
            "X-Xet-Token-Expiration": str(expires),
        }
        self.answer(access, headers=headers)

    @route("POST", "/api/datasets/{id}/commit/{rev}", "commit")
    def commit(self, repo_id: str, revision: str) -> None:
        """Make a commit, or none of it, on top of the parent that its header names."""
        pull = "create_pr" in self.query
        repo = self.writable(repo_id, pull)
        header, *lines = [json.loads(line) for line in self.body().splitlines()]
        description = header["value"]
        with self.hub.lock:
            head = self.revision(repo, revision)
            parent_id = description.get("parentCommit") or head.id
            if parent_id != head.id and not pull:
                raise Refusal(
                    412,
                    "The branch was updated since you opened this page. "
                    "Please refresh and try again.",
                )
            files = dict(self.revision(repo, parent_id).files)
            for line in lines:
                self._apply(files, line["key"], line["value"])
            title, message = description["summary"], description.get("description", "")
            commit = repo.add(parent_id, title, message, files)
            if pull:
                repo.pulls[f"refs/pr/{len(repo.pulls) + 1}"] = commit.id
            else:
                repo.branches[revision] = commit.id
        page = f"{self.hub.endpoint}/datasets/{repo.id}"
        answer = {
            "success": True,
            "commitOid": commit.id,
            "commitUrl": f"{page}/commit/{commit.id}",
        }
        if pull:
            answer["pullRequestUrl"] = f"{page}/discussions/{len(repo.pulls)}"
        self.answer(answer)

    def _apply(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        """Apply one line of a commit to the files of its tree."""
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
        """Tag a commit; refuse a tag that exists."""
        repo = self.writable(repo_id)
        name = self.json()["tag"]
        with self.hub.lock:
            if name in repo.tags:
                raise Refusal(409, f"Tag {name} already exists")
            repo.tags[name] = self.revision(repo, revision).id
        self.answer({})

    @route("HEAD", "/datasets/{id}/resolve/{rev}/{path}", "head")
    @route("GET", "/datasets/{id}/resolve/{rev}/{path}", "resolve")
    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        """Send a regular file, or the address of an LFS file in the file store."""
        commit = self.revision(self.readable(repo_id), revision)
        headers = {"X-Repo-Commit": commit.id}
        blob = commit.files.get(path)
        if blob is None:
            self.refuse(Refusal(404, f"{path} does not exist", "EntryNotFound"), headers)
            return
        headers["ETag"] = f'"{blob.oid}"'
        if not blob.lfs:
            self.send_object(blob.sha256, headers)
            return
        headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["X-Linked-Size"] = str(blob.size)
        headers["Location"] = f"{self.hub.store}/objects/{blob.sha256}?signature=secret"
        self.answer(b"", 302, headers)


class StoreHandler(Handler):
    """The file store: LFS objects, xorbs and shards; no request may carry the Hub's token."""

    def record_request(self, step: str) -> None:
        """Log the request, and a leak where it carries a token of the Hub."""
        if self.token in (TOKEN, READ_TOKEN, EXPIRED_TOKEN):
            self.hub.leaks.append(f"{self.command} {self.path}")
        super().record_request(step)

    @route("PUT", "/objects/{rev}", "put")
    def put(self, oid: str) -> None:
        """Store an object once all of it has arrived and its checksum is correct."""
        path = self.hub.root / "objects" / oid
        partial = path.with_name(f"{oid}.{threading.get_ident()}.partial")
        digest = hashlib.sha256()
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
        """Store one part of an object."""
        (self.hub.root / "objects" / f"{oid}.{number}").write_bytes(self.body())
        self.answer(b"", headers={"ETag": f'"{oid}-{number}"'})

    @route("HEAD", "/objects/{rev}", "object")
    @route("GET", "/objects/{rev}", "object")
    def get(self, oid: str) -> None:
        """Send an object or a range of it."""
        self.send_object(oid, {"ETag": f'"{oid}"'})

    @route("POST", "/v1/xorbs/default/{rev}", "xorb")
    def xorb(self, name: str) -> None:
        """Store a xorb, a block of chunks."""
        path = self.hub.root / "xorbs" / name
        partial = path.with_name(f"{name}.{threading.get_ident()}.partial")
        with partial.open("wb") as file:
            file.writelines(self.pieces())
        partial.rename(path)
        self.answer({"was_inserted": True})

    @route("POST", "/v1/shards", "shard")
    def shard(self) -> None:
        """Store the list of each file's chunks; refuse a file whose xorbs have not arrived."""
        files = dict(read_shard(self.body()))
        for chunks in files.values():
            for xorb, _, _ in chunks:
                if not (self.hub.root / "xorbs" / xorb).exists():
                    raise Refusal(400, "a shard names a xorb that was never sent")
        self.hub.xet_files.update(files)
        self.answer({"result": 1})

    @route("POST", "/v1/telemetry", "telemetry")
    def telemetry(self) -> None:
        """Accept hf_xet's reports of failed uploads."""
        self.body()
        self.answer({})


def file_row(path: str, blob: Blob) -> dict[str, Any]:
    """Return the row of a file in the replies of tree and paths-info."""
    row: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    if blob.lfs:
        row["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}
    return row


def folder_row(path: str) -> dict[str, Any]:
    """Return the row of a folder in the reply of tree."""
    return {"type": "directory", "path": path, "oid": git_oid(path.encode()), "size": 0}


def ref_rows(refs: dict[str, str], prefix: str) -> list[dict[str, str]]:
    """Return the rows of branches, tags or pull requests in the reply of refs."""
    rows = []
    for name, commit_id in refs.items():
        rows.append({"name": name, "ref": prefix + name, "targetCommit": commit_id})
    return rows


def main(argv: list[str] | None = None) -> int:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A small Hugging Face Hub on 127.0.0.1 for tests.")
    parser.add_argument("--root", type=Path, required=True, help="folder for the objects")
    parser.add_argument("--xet", choices=("http", "local"), default="http", help="store of hf_xet")
    args = parser.parse_args(argv)
    with LoopbackHub(args.root, xet=args.xet) as hub:
        addresses = {"endpoint": hub.endpoint, "store": hub.store, "token": TOKEN}
        print(json.dumps(addresses), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
