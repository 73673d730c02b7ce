"""An OpenAI-compatible endpoint on the loopback that replies and fails as a test wants it to."""

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
class StubRequest:
    """A request that the endpoint received.

    Attributes:
        number: its number among all requests, from 1.
        attempt: its number among the requests with the same prompt and picture, from 1.
        prompt: the text of the last message.
        picture: the bytes of the picture, None where the request has none.
        body: the whole request.
    """

    number: int
    attempt: int
    prompt: str
    picture: bytes | None
    body: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A failure: an HTTP status, a delay in seconds, another body, or a closed connection (`cut`).

    `drip` is the pause in seconds after each byte of the body.
    """

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    delay: float = 0.0
    body: bytes | None = None
    cut: bool = False
    drip: float = 0.0


@dataclasses.dataclass(frozen=True)
class StubReply:
    """One choice of a reply: its text, the finish reason, and further fields of the message."""

    content: str | None
    finish_reason: object = "stop"
    message: dict[str, Any] = dataclasses.field(default_factory=dict)


class StubEndpoint:
    """Serve `/v1/chat/completions` and `/v1/images/generations` while the `with` block runs.

    Args:
        reply: return the reply to a request: its text, the bytes of a picture, or a `StubReply`.
        fault: return the failure of a request, None for a proper reply.

    Attributes:
        requests: all requests in the order in which they arrived.
        tokens: [prompt tokens, completion tokens] of all replies.
        most_in_flight: the largest number of requests that were open at the same time.
    """

    def __init__(
        self,
        reply: Callable[[StubRequest], str | bytes | StubReply] = lambda request: "yes",
        fault: Callable[[StubRequest], Fault | None] = lambda request: None,
    ) -> None:
        self.reply = reply
        self.fault = fault
        self.requests: list[StubRequest] = []
        self.tokens = [0, 0]
        self.in_flight = 0
        self.most_in_flight = 0
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> StubEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self, body: dict[str, Any]) -> StubRequest:
        """Record a request that has arrived."""
        prompt, picture = _read_prompt(body)
        key = hashlib.sha256(prompt.encode() + b"\0" + (picture or b"")).hexdigest()
        with self._lock:
            self._attempts[key] += 1
            number = len(self.requests) + 1
            request = StubRequest(number, self._attempts[key], prompt, picture, body)
            self.requests.append(request)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return request

    def end(self) -> None:
        """Record that a request is answered."""
        with self._lock:
            self.in_flight -= 1

    def make_reply(self, request: StubRequest) -> bytes:
        """Return the body of a proper reply and count its tokens."""
        reply = self.reply(request)
        if isinstance(reply, bytes):
            usage = self._count_tokens(request, len(reply.split()))
            picture = {"b64_json": base64.b64encode(reply).decode()}
            return json.dumps({"created": 0, "data": [picture], "usage": usage}).encode()
        if isinstance(reply, str):
            reply = StubReply(reply)
        message = {"role": "assistant", "content": reply.content, **reply.message}
        choice = {"index": 0, "finish_reason": reply.finish_reason, "message": message}
        completion = {
            "id": f"stub-{request.number}",
            "object": "chat.completion",
            "created": 0,
            "model": request.body["model"],
            "choices": [choice],
            "usage": self._count_tokens(request, len((reply.content or "").split())),
        }
        return json.dumps(completion).encode()

    def _count_tokens(self, request: StubRequest, received: int) -> dict[str, int]:
        sent = len(request.prompt.split())
        if request.picture:
            sent += 10
        with self._lock:
            self.tokens[0] += sent
            self.tokens[1] += received
        total = sent + received
        return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": total}


def _read_prompt(body: dict[str, Any]) -> tuple[str, bytes | None]:
    if "prompt" in body:
        return body["prompt"], None
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content, None
    prompt = ""
    picture = None
    for part in content:
        if part["type"] == "text":
            prompt += part["text"]
        elif part["type"] == "image_url":
            picture = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return prompt, picture


def _make_handler(stub: StubEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = stub.begin(json.loads(body))
            try:
                self._reply(request, stub.fault(request) or Fault())
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                stub.end()

        def _reply(self, request: StubRequest, fault: Fault) -> None:
            time.sleep(fault.delay)
            if fault.cut:
                self.close_connection = True
            elif fault.status != 200 or fault.body is not None:
                body = fault.body or b'{"error": {"message": "fault"}}'
                self._send(fault.status, body, fault.headers, fault.drip)
            else:
                self._send(200, stub.make_reply(request), {}, drip=0.0)

        def _send(self, status: int, body: bytes, headers: dict[str, str], drip: float) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not drip:
                self.wfile.write(body)
                return
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(drip)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
