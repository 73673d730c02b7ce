# SPDX-License-Identifier: Apache-2.0
"""Real clients of the loopback Hub, each in a process of its own, since they read their settings when imported.

As a program it is the process: it calls `push` or `verify` as `mmrel` does, but with few and short retries, and without
`check`, which is another test's business and takes longer than all the rest:

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

PROJECT = Path(__file__).resolve().parents[2]

POLICY = {"tries": 3, "first_wait": 0.1, "longest_wait": 10.0, "timeout": 1.0}


@dataclass
class Client:
    """Starts processes that know no other Hub than this one.

    Attributes:
        hub: The Hub they talk to, and the proxy through which they would leave the machine.
        home: An empty folder for caches; also keeps a developer's own token out.
        xet: Send LFS files by way of hf_xet, as users do who have it, or plainly.
        token: The token, or "" for none.
        settings: Further environment variables.
    """

    hub: LoopbackHub
    home: Path
    xet: bool = False
    token: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.token = self.token or TOKEN

    def environment(self) -> dict[str, str]:
        """The environment of the processes."""
        self.home.mkdir(exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING"))
        }
        ours = {
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.home),
            "HF_TOKEN": self.token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms",
            "HF_XET_CLIENT_READ_TIMEOUT": "1s",
            **dict.fromkeys(
                ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.hub.endpoint
            ),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "PYTHONPATH": str(PROJECT),
        }
        return {**kept, **ours, **self.settings}

    def start(
        self, command: str, root: Path, repo_id: str, *options: str, **policy: float
    ) -> subprocess.Popen[str]:
        """Start `push` or `verify`."""
        program = [
            sys.executable,
            "-m",
            "tests.hub.hub_client",
            json.dumps({**POLICY, **policy}),
        ]
        arguments = [command, str(root), "--repo-id", repo_id, *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*program, *arguments], env=self.environment(), cwd=self.home, text=True, **pipes
        )

    def run(
        self, command: str, root: Path, repo_id: str = "ns/MMRel", *options: str, **policy: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `push` or `verify` to the end."""
        process = self.start(command, root, repo_id, *options, **policy)
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def upload(self, *arguments: str) -> str:
        """Run the real upload.py, which must succeed, and return what it printed."""
        return self._succeed(str(PROJECT / "upload.py"), *arguments)

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code, which must succeed, and return what it printed."""
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
    """Parse and run, as the command does; the first argument is the retry policy, as JSON."""
    # Here, since they read their settings when imported.
    from mmrel_kit.hub.calls import RetryPolicy
    from mmrel_kit.hub.push import push
    from mmrel_kit.hub.verify import verify

    policy, command, *given = argv
    parser = argparse.ArgumentParser(prog=f"mmrel {command}")
    add = parser.add_argument
    add("release", type=Path)
    add("--repo-id")
    if command == "push":
        add("--private", action="store_true")
        add("--create-pr", action="store_true")
        add("--dry-run", action="store_true")
        add("--tag")
        add("--message")
    else:
        add("--revision", default="main")
        add("--deep", action="store_true")

    def run(args: argparse.Namespace) -> int:
        options = {name: value for name, value in vars(args).items() if name != "run"}
        root, repo_id = options.pop("release"), options.pop("repo_id")
        options["policy"] = RetryPolicy(**json.loads(policy))
        if command == "push":
            print(push(root, repo_id, check=lambda root: [], show=print, **options))
            return 0
        found = verify(root, repo_id, **options)
        print(found)
        return 0 if found.is_good else 1

    parser.set_defaults(run=run)
    return run_command(parser, given, (InputError,))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
