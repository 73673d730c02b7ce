# SPDX-License-Identifier: Apache-2.0
"""Send one request through the openai client and return its `Outcome`, whatever happens."""

from __future__ import annotations

import email.utils
import importlib
import json
import time
from typing import Any, Literal
from urllib.parse import urlsplit

from mmrel_kit.endpoint.replies import Outcome, Request, read_body, replace_surrogates
from mmrel_kit.files import InputError

# A generated picture of 1024 x 1024 is 2 to 4 MB in base64; an answer is a few hundred bytes.
MAX_REPLY_BYTES = 16 << 20
TOO_LARGE = "reply of more than 16 MiB"
CONNECT_TIMEOUT = 5.0  # seconds; the reply itself may take far longer
MAX_MESSAGE = 200  # characters of an endpoint's error message that are shown
TRANSIENT_STATUSES = frozenset((408, 409, 425, 429))  # and all from 500 on
# Fields of the body that are set below, and options of the client. Parameters are stored, and a
# header may hold a secret.
RESERVED_PARAMETERS = frozenset(
    ("model", "messages", "prompt", "stream", "extra_body", "extra_headers", "extra_query")
)
MIN_SECRET = 6  # characters; a shorter one, such as "none", may be a word of an answer


class Sender:
    """Sends requests to one model of an endpoint, each exactly once.

    The client's own retries are off (see `batch.Endpoint`). Every reply, whatever its status, is
    read within `MAX_REPLY_BYTES` and the timeout. For the arguments, see `batch.Endpoint`.

    Attributes:
        url: base_url without credentials, query and last slash.

    Raises:
        InputError: a setting is invalid.
        ModuleNotFoundError: openai is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        kind: Literal["chat", "images"],
        parameters: dict[str, Any],
        api_key: str | None,
        timeout: float,
    ) -> None:
        self._openai, self._http = load_client()
        self.url = normalise_url(base_url)
        _check_settings(model, parameters)
        self._model, self._kind, self._parameters = model, kind, parameters
        self._secret = _check_secret(api_key)
        self._timeout = timeout
        self._client = self._connect(base_url)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, request: Request) -> Outcome:
        """Send a request and return its outcome; failures do not raise."""
        started = time.monotonic()
        outcome = Outcome()
        try:
            response = self._create(request)
            outcome.status = response.status_code
            outcome.body = self._read_text(response.content)
            read_body(self._kind, outcome)
        except self._openai.APIStatusError as error:
            self._read_error_response(error.response, outcome)
        except OverflowError:
            outcome.failure = TOO_LARGE
        except (self._openai.APIConnectionError, self._http.HTTPError) as error:
            self._read_connection_error(error.__cause__ or error, outcome)
        outcome.seconds = round(time.monotonic() - started, 3)
        return outcome

    def _read_error_response(self, response: Any, outcome: Outcome) -> None:
        status = response.status_code
        outcome.status = status
        outcome.body = self._read_text(response.content)
        outcome.message = _read_message(outcome.body)
        outcome.failure = f"HTTP {status}"
        outcome.transient = status in TRANSIENT_STATUSES or status >= 500
        outcome.wait = _parse_retry_after(response.headers.get("retry-after"))

    def _read_connection_error(self, error: BaseException, outcome: Outcome) -> None:
        http = self._http
        if isinstance(error, OverflowError):  # wrapped by the client
            outcome.failure = TOO_LARGE
            return
        outcome.transient = True
        if isinstance(error, http.ConnectTimeout):
            outcome.failure = f"no connection within {min(self._timeout, CONNECT_TIMEOUT):g} s"
            outcome.unreachable = True
        elif isinstance(error, http.TimeoutException):
            outcome.failure = f"no whole reply within {self._timeout:g} s"
        else:
            outcome.failure = f"connection: {type(error).__name__}"
            outcome.unreachable = isinstance(error, (http.ConnectError, http.ProxyError))
            outcome.message = _make_printable_line(str(error))

    def _create(self, request: Request) -> Any:
        text = replace_surrogates(request.prompt)
        if self._kind == "images":
            images: Any = self._client.images.with_raw_response
            return images.generate(model=self._model, prompt=text, extra_body=self._parameters)
        content: Any = text
        if request.picture:
            picture = {"type": "image_url", "image_url": {"url": request.picture.url}}
            content = [picture, {"type": "text", "text": text}]
        chat: Any = self._client.chat.completions.with_raw_response
        messages = [{"role": "user", "content": content}]
        return chat.create(model=self._model, messages=messages, extra_body=self._parameters)

    def _connect(self, base_url: str) -> Any:
        connect = min(self._timeout, CONNECT_TIMEOUT)
        try:
            return self._openai.OpenAI(
                base_url=base_url,
                api_key=self._secret or "none",
                timeout=self._openai.Timeout(self._timeout, connect=connect),
                max_retries=0,
                http_client=_make_http_client(self._openai, self._http, self._timeout),
            )
        except self._http.InvalidURL as error:
            raise InputError(
                f"expected an address as --base-url, got {self.url!r}: {error}"
            ) from None

    def _read_text(self, body: bytes) -> str:
        """Decode a reply's body and remove the secret, which some endpoints repeat in errors."""
        text = body.decode("utf-8", "replace")
        if not self._secret or len(self._secret) < MIN_SECRET:
            return text
        return text.replace(self._secret, "[secret]")


def load_client() -> tuple[Any, Any]:
    """Import and return the openai client and its HTTP library, which defines connection errors.

    Everything else in this package works without them. The HTTP library is the client's choice:
    httpx, in later versions httpx2.

    Raises:
        ModuleNotFoundError: openai is not installed (the extra `semidc`).
    """
    import openai

    transport = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    return openai, importlib.import_module(transport)


def normalise_url(base_url: str) -> str:
    """Return an endpoint's address without credentials, query, default port and last slash.

    Raises:
        InputError: it is not an address, or has no http:// or https://.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    is_http = host and parts.scheme in ("http", "https")
    if not is_http or not base_url.isprintable() or " " in base_url:
        without_secrets = base_url.rpartition("@")[2].partition("?")[0]
        raise InputError(
            "expected an address with http:// or https://, such as http://127.0.0.1:8000/v1, "
            f"as --base-url, got {without_secrets!r}"
        )
    if ":" in str(host):
        host = f"[{host}]"
    if port not in (None, {"http": 80, "https": 443}[parts.scheme]):
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def _make_http_client(openai: Any, http: Any, timeout: float) -> Any:
    """Return an HTTP client with limits, since openai reads the body of an error without any."""

    class BoundedClient(openai.DefaultHttpxClient):  # type: ignore[misc]
        """Reads complete replies within a limit of size and time."""

        def send(self, request: Any, **options: Any) -> Any:
            """Send a request; raise OverflowError or ReadTimeout if a limit is exceeded."""
            deadline = time.monotonic() + timeout
            body = bytearray()
            response = super().send(request, **{**options, "stream": True})
            try:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_REPLY_BYTES:
                        raise OverflowError
                    if time.monotonic() > deadline:
                        raise http.ReadTimeout("too slow", request=request)
            finally:
                response.close()
            fields = response.headers.multi_items()
            headers = [field for field in fields if field[0].lower() != "content-encoding"]
            complete = http.Response(
                response.status_code, headers=headers, content=bytes(body), request=request
            )
            # A header may name a codec of Python that raises or returns broken text.
            complete.encoding = "utf-8"
            return complete

    return BoundedClient()


def _check_settings(model: str, parameters: dict[str, Any]) -> None:
    """Refuse settings that cannot be sent or stored."""
    if not model:
        raise InputError("expected the name of a model as --model, got ''")
    if replace_surrogates(model) != model:
        raise InputError(f"expected the name of a model in valid text, got {model!r}")
    reserved = sorted(RESERVED_PARAMETERS.intersection(parameters))
    if reserved:
        raise InputError(
            f"expected other fields of a request's body, got {', '.join(reserved)}; leave it out"
        )
    for name, value in parameters.items():
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"expected a parameter that can be sent as JSON, got {name!r}: {error}"
            ) from None


def _check_secret(secret: str | None) -> str | None:
    """Return the secret without surrounding space, or None; the error does not show it."""
    secret = (secret or "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise InputError("expected plain ASCII in OPENAI_API_KEY, got other text; copy it again")
    return secret or None


def _make_printable_line(text: str) -> str | None:
    """Return untrusted text as one short line that is safe on a terminal, or None if empty."""
    printable = "".join(char if char.isprintable() else " " for char in text[:2000])
    line = " ".join(printable.split())
    if len(line) > MAX_MESSAGE:
        line = f"{line[: MAX_MESSAGE - 1]}…"
    return line or None


def _read_message(body: str) -> str | None:
    """Return the message in the body of an error, or the body itself, as one line."""
    try:
        value = json.loads(body)
        value = value.get("error", value)
        message = value
        if isinstance(value, dict):
            message = value.get("message") or value.get("detail")
    except (ValueError, AttributeError, RecursionError):
        message = body
    return _make_printable_line(message if isinstance(message, str) else body)


def _parse_retry_after(text: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date; None if neither."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
