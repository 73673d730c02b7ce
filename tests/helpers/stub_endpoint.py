"""An OpenAI-compatible endpoint on loopback for tests: it says what a function tells it to, with faults by rule."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as the endpoint sees it: the how-manieth of all, and of those with the same prompt and picture."""

    number: int
    nth: int
    prompt: str
    picture: bytes | None
    body: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong: a status, a delay in seconds, a body of its own, or a connection that is cut.

    `drip` sends the body byte by byte, with so many seconds between.
    """

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    delay: float = 0.0
    body: bytes | None = None
    cut: bool = False
    drip: float = 0.0


@dataclasses.dataclass(frozen=True)
class Said:
    """A choice of a reply: text, why the model stopped, and more fields of the message."""

    content: str | None
    finish_reason: object = "stop"
    message: dict[str, Any] = dataclasses.field(default_factory=dict)


class StubEndpoint:
    """Serves `/v1/chat/completions` and `/v1/images/generations` while the `with` block runs.

    Args:
        say: the text (or, for pictures, the bytes) that is answered; for reasoning or another
            finish_reason, a `Said`.
        fault: what goes wrong with a request, or null.

    Attributes:
        asked: all requests, in the order of their coming.
        tokens: (sent, received) of all replies that carried a count.
        most_in_flight: most requests that were open at once.
    """

    def __init__(
        self,
        say: Callable[[Asked], str | bytes | Said] = lambda asked: "yes",
        fault: Callable[[Asked], Fault | None] = lambda asked: None,
    ) -> None:
        self.say, self.fault = say, fault
        self.asked: list[Asked] = []
        self.tokens = [0, 0]
        self.in_flight = self.most_in_flight = 0
        self._same: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        """What a client calls base URL."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> StubEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def note(self, body: dict[str, Any]) -> Asked:
        """Count a request in."""
        prompt, picture = _read_prompt(body)
        same = hashlib.sha256(prompt.encode() + b"\0" + (picture or b"")).hexdigest()
        with self._lock:
            self._same[same] += 1
            asked = Asked(len(self.asked) + 1, self._same[same], prompt, picture, body)
            self.asked.append(asked)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return asked

    def make_reply(self, asked: Asked) -> bytes:
        """The body of a good reply; its tokens are counted."""
        said = self.say(asked)
        if isinstance(said, str):
            said = Said(said)
        words = said if isinstance(said, bytes) else said.content or ""
        sent, received = len(asked.prompt.split()) + 10 * bool(asked.picture), len(words.split())
        with self._lock:
            self.tokens[0] += sent
            self.tokens[1] += received
        usage = {
            "prompt_tokens": sent,
            "completion_tokens": received,
            "total_tokens": sent + received,
        }
        if isinstance(said, bytes):
            return json.dumps(
                {
                    "created": 0,
                    "data": [{"b64_json": base64.b64encode(said).decode()}],
                    "usage": usage,
                }
            ).encode()
        message = {"role": "assistant", "content": said.content, **said.message}
        choice = {"index": 0, "finish_reason": said.finish_reason, "message": message}
        reply = {
            "id": f"stub-{asked.number}",
            "object": "chat.completion",
            "created": 0,
            "model": asked.body["model"],
        }
        return json.dumps(reply | {"choices": [choice], "usage": usage}).encode()

    def done(self) -> None:
        """Count a request out."""
        with self._lock:
            self.in_flight -= 1


def _read_prompt(body: dict[str, Any]) -> tuple[str, bytes | None]:
    if "prompt" in body:
        return body["prompt"], None
    content, picture = body["messages"][-1]["content"], None
    if isinstance(content, str):
        return content, None
    for part in content:
        if part["type"] == "image_url":
            picture = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return "".join(part["text"] for part in content if part["type"] == "text"), picture


def _make_handler(stub: StubEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802
            asked = stub.note(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            try:
                fault = stub.fault(asked) or Fault()
                time.sleep(fault.delay)
                if fault.cut:
                    self.close_connection = True
                    return
                if fault.status != 200 or fault.body is not None:
                    body = fault.body or b'{"error": {"message": "fault"}}'
                    self._answer(fault.status, body, fault.headers, fault.drip)
                else:
                    self._answer(200, stub.make_reply(asked), {})
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                stub.done()

        def _answer(
            self, status: int, body: bytes, headers: dict[str, str], drip: float = 0.0
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not drip:
                self.wfile.write(body)
                return
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                time.sleep(drip)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
