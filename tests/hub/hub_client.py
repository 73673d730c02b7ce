# SPDX-License-Identifier: Apache-2.0
"""Real clients of the loopback Hub, each in another process, as they read settings when imported.

Run as a program it is that process. It calls `push` or `verify` as `mmrel` does, but gives up after
a short time, and leaves out `check`, which takes long and has tests of its own:

    python -m tests.hub.hub_client '{"timeout": 1.0}' push DIR --repo-id ns/MMRel
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mmrel_kit.cli import run_command
from mmrel_kit.files import InputError
from tests.hub.loopback_hub import TOKEN, LoopbackHub

REPOSITORY = Path(__file__).resolve().parents[2]

POLICY = {"tries": 3, "first_wait": 0.1, "longest_wait": 10.0, "timeout": 1.0}  # seconds


@dataclass
class Client:
    """Start processes whose Hub is a loopback Hub.

    Attributes:
        hub: The Hub; also their proxy, so that requests to other hosts are noticed.
        home: A folder for caches, created at need; a developer's own token is not in it.
        xet: Whether LFS files are sent with hf_xet.
        token: The token; by default, one that may write.
        settings: Further environment variables.
    """

    hub: LoopbackHub
    home: Path
    xet: bool = False
    token: str = TOKEN
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the processes."""
        self.home.mkdir(exist_ok=True)
        environment = dict(os.environ)
        for name in os.environ:
            if name.startswith(("HF_", "HUGGING")):
                del environment[name]
        environment |= {
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.home),
            "HF_TOKEN": self.token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms",
            "HF_XET_CLIENT_READ_TIMEOUT": "1s",
            "PYTHONPATH": str(REPOSITORY),
        }
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            environment[name] = self.hub.endpoint
        for name in ("NO_PROXY", "no_proxy"):
            environment[name] = "127.0.0.1,localhost"
        return environment | self.settings

    def start(
        self, command: str, root: Path, repo_id: str, *options: str, **policy: float
    ) -> subprocess.Popen[str]:
        """Start `push` or `verify`; `policy` overrides values of POLICY."""
        program = [sys.executable, "-m", "tests.hub.hub_client"]
        arguments = [command, str(root), "--repo-id", repo_id, *options]
        return subprocess.Popen(
            [*program, json.dumps({**POLICY, **policy}), *arguments],
            env=self.environment(),
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self, command: str, root: Path, repo_id: str = "ns/MMRel", *options: str, **policy: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `push` or `verify` and capture its output."""
        process = self.start(command, root, repo_id, *options, **policy)
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def upload(self, *arguments: str) -> str:
        """Run upload.py, which must succeed, and return its standard output."""
        return self._succeed(str(REPOSITORY / "upload.py"), *arguments)

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code, which must succeed, and return its standard output."""
        return self._succeed("-c", code, *arguments)

    def _succeed(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command,
            env=self.environment(),
            cwd=self.home,
            text=True,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def main(argv: list[str]) -> int:
    """Run `push` or `verify`; the first argument is the policy as JSON."""
    # Imported here because they read their settings when imported.
    from mmrel_kit.hub.calls import RetryPolicy
    from mmrel_kit.hub.push import push
    from mmrel_kit.hub.verify import verify

    policy, command, *arguments = argv
    parser = argparse.ArgumentParser(prog=f"mmrel {command}")
    parser.add_argument("release", type=Path)
    parser.add_argument("--repo-id")
    if command == "push":
        parser.add_argument("--private", action="store_true")
        parser.add_argument("--create-pr", action="store_true")
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("--tag")
        parser.add_argument("--message")
    else:
        parser.add_argument("--revision", default="main")
        parser.add_argument("--deep", action="store_true")

    def run(args: argparse.Namespace) -> int:
        options = dict(vars(args))
        del options["run"]
        root = options.pop("release")
        repo_id = options.pop("repo_id")
        options["policy"] = RetryPolicy(**json.loads(policy))
        if command == "push":
            print(push(root, repo_id, check=lambda root: [], show=print, **options))
            return 0
        verification = verify(root, repo_id, **options)
        print(verification)
        return 0 if verification.is_good else 1

    parser.set_defaults(run=run)
    return run_command(parser, arguments, (InputError,))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
