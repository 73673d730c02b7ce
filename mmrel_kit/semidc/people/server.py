# SPDX-License-Identifier: Apache-2.0
"""Serve the page on which people verify items: static files, a JSON interface, and pictures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi import Path as UrlPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mmrel_kit.endpoint import media_type
from mmrel_kit.files import InputError
from mmrel_kit.questions.records import make_question, parse_image_path
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import Item
from mmrel_kit.semidc.people.store import Decision, Project
from mmrel_kit.semidc.words import make_triplet, spoken_article

FOLDER = Path(__file__).resolve().parent
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
MAX_BODY = 16 << 10  # bytes of a request; a decision takes a few hundred
MIN_SECRET = 12  # characters
MAX_VOTES = 20  # shown of a disputed item
COOKIE_SECONDS = 30 * 86400
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# The responses that the interface's OpenAPI schema describes.
_STATUSES = {
    400: "body is not JSON, or not text",
    401: "not signed in",
    403: "from another site, or with another secret",
    404: "the project has no such picture",
    409: "item was not shown, or others decided on it in the meantime",
    411: "no content length",
    413: "body is too large",
    415: "content type is not application/json",
    421: "sent to another host name",
    422: "fields are invalid, or no question can be asked about the words",
}

Id = Annotated[
    str,
    Field(pattern="^[0-9a-f]{32}$", description="made by the client; a repeated id is stored once"),
]
Sha256 = Annotated[str, UrlPath(pattern="^[0-9a-f]{64}$")]
Word = Annotated[str, Field(min_length=1, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


class SignIn(_Body):
    """The annotator's name, and the secret that the project's host gave out."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    secret: Annotated[str, Field(max_length=200)] = ""


class Next(_Body):
    """A request for the next open item, or for the next disputed one."""

    adjudicate: bool = False


class Decide(_Body):
    """A decision on the item shown; a correction holds the complete triplet."""

    id: Id
    item: Annotated[int, Field(ge=1, le=2**53)]
    verdict: Literal["accept", "correct", "reject", "skip"]
    triplet: Annotated[list[Word], Field(min_length=3, max_length=3)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86400)] | None = None
    adjudicate: bool = False


class Undo(_Body):
    """The decision to undo."""

    id: Id


def make_app(
    project: Project, images: Path, hosts: Iterable[str], secret: str | None = None
) -> FastAPI:
    """Make the web application of a project.

    `hosts` are the accepted values of the Host header, with port. Without a secret, everybody may
    sign in.
    """
    app = FastAPI(title="MMRel: verify", docs_url=None, redoc_url=None)
    app.state.project, app.state.images, app.state.secret = project, images, secret
    app.state.key = project.signing_key()
    # Browsers share cookies between the ports of a host, so the project is part of the name.
    app.state.cookie = f"semidc-{hashlib.sha256(app.state.key).hexdigest()[:12]}"
    allowed_hosts = frozenset(host.lower() for host in hosts)

    @app.middleware("http")
    async def check(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        problem = find_request_problem(request, allowed_hosts)
        if problem:
            status, detail = problem
            response: Response = JSONResponse({"detail": detail}, status)
        else:
            response = await call_next(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.exception_handler(RequestValidationError)(describe_invalid_body)
    for url, name in FILES.items():
        app.add_api_route(url, _make_file_route(name), methods=["GET"], include_in_schema=False)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": reason} for status, reason in _STATUSES.items()
    }
    app.post("/api/sign-in", responses=responses)(sign_in)
    app.post("/api/next", responses=responses)(show_next)
    app.post("/api/decisions", responses=responses)(decide)
    app.post("/api/undo", responses=responses)(undo)
    app.get("/api/vocabulary", responses=responses)(show_vocabulary)
    app.get("/picture/{sha256}", responses=responses, response_class=Response)(show_picture)
    return app


def find_request_problem(request: Request, hosts: frozenset[str]) -> tuple[int, str] | None:
    """Return status and message if a request cannot come from our page, or is too large."""
    headers = request.headers
    host = headers.get("host", "").lower()
    if host not in hosts:
        return 421, f"expected the host {' or '.join(sorted(hosts))}, got {host[:80]!r}"
    if request.method in ("GET", "HEAD"):
        return None
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return 403, "expected a request from this page, got one from another site"
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return 403, f"expected a request from this page, got one from {origin[:80]!r}"
    content_type = headers.get("content-type", "").partition(";")[0]
    if content_type.strip().lower() != "application/json":
        return 415, "expected the content type application/json"
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return 411, "expected a content length"
    if int(length[:12]) > MAX_BODY:
        return 413, f"expected at most {MAX_BODY} bytes, got {length}"
    return None


async def describe_invalid_body(_: Request, error: Exception) -> Response:
    """Describe the invalid fields of a request without their values, which may not even be text."""
    details = []
    if isinstance(error, RequestValidationError):
        for problem in error.errors():
            details.append(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
    detail = "; ".join(details).encode("ascii", "backslashreplace").decode()
    return JSONResponse({"detail": detail[:1000]}, 422)


def get_annotator(request: Request) -> str:
    """Return the annotator's name from the signed cookie."""
    name, _, signature = request.cookies.get(request.app.state.cookie, "").partition(".")
    expected = _sign(request.app.state.key, name).encode()
    if name and hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
        return base64.urlsafe_b64decode(name).decode()
    raise HTTPException(401, "sign in with your name")


Annotator = Annotated[str, Depends(get_annotator)]


def sign_in(body: SignIn, request: Request, response: Response) -> dict[str, Any]:
    """Sign in under a name; set a signed cookie, closed to scripts and to other sites."""
    state, name = request.app.state, " ".join(body.name.split())
    if not name or not name.isprintable():
        raise HTTPException(422, "expected a name of printable characters")
    is_allowed = state.secret is None or hmac.compare_digest(
        body.secret.encode(), state.secret.encode()
    )
    if not is_allowed:
        raise HTTPException(403, "this is not the secret that was agreed on")
    encoded = base64.urlsafe_b64encode(name.encode()).decode()
    signed = f"{encoded}.{_sign(state.key, encoded)}"
    response.set_cookie(
        state.cookie, signed, max_age=COOKIE_SECONDS, httponly=True, samesite="strict"
    )
    return {"name": name}


def show_next(body: Next, annotator: Annotator, request: Request) -> dict[str, Any]:
    """Return the item that the annotator should see."""
    project: Project = request.app.state.project
    item = project.next_item(annotator, body.adjudicate)
    return _describe(project, annotator, item, body.adjudicate)


def decide(body: Decide, annotator: Annotator, request: Request) -> dict[str, Any]:
    """Store a decision, and return the next item."""
    project: Project = request.app.state.project
    item = project.find_item(body.item)
    if (body.verdict == "correct") != (body.triplet is not None):
        raise HTTPException(422, "expected a triplet with a correction, and with nothing else")
    if item is None:
        raise HTTPException(409, "there is no such item")
    verdict, triplet = body.verdict, None
    if body.triplet:
        domain, _ = parse_image_path(item.image_id)
        try:
            triplet = make_triplet(domain, item.category, *body.triplet)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
    if triplet == item.triplet:
        verdict, triplet = "accept", None
    try:
        project.decide(Decision(body.id, body.item, annotator, verdict, triplet, body.seconds))
    except InputError as error:
        raise HTTPException(409, str(error)) from None
    return show_next(Next(adjudicate=body.adjudicate), annotator, request)


def undo(body: Undo, annotator: Annotator, request: Request) -> dict[str, Any]:
    """Undo the annotator's last decision, and return its item."""
    project: Project = request.app.state.project
    try:
        item, adjudicates = project.undo(annotator, body.id)
    except InputError as error:
        raise HTTPException(409, str(error)) from None
    return _describe(project, annotator, item, adjudicates)


def show_vocabulary(annotator: Annotator, request: Request) -> dict[str, Any]:
    """Return words that complete what annotators type: relations by category, and names."""
    relations: dict[str, list[dict[str, Any]]] = {}
    for category, vocabulary in read_taxonomy().categories.items():
        relations[category] = [
            {"name": relation.name, "synonyms": relation.synonyms}
            for relation in vocabulary.relations.values()
        ]
    return {"relations": relations, "names": request.app.state.project.list_names()}


def show_picture(sha256: Sha256, annotator: Annotator, request: Request) -> Response:
    """Return a picture of the project, as long as the file still has this hash."""
    image_id = request.app.state.project.find_picture(sha256)
    try:
        data = (request.app.state.images / image_id).read_bytes() if image_id else b""
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise HTTPException(404, "no such picture, or it is missing or changed")
    headers = {"Cache-Control": "private, max-age=604800, immutable"}
    return Response(data, media_type=media_type(data), headers=headers)


def serve(
    project: Project,
    images: Path,
    host: str,
    port: int,
    secret: str | None,
    names: Sequence[str] = (),
    announce: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until interrupted.

    A port of 0 takes a free one. `names` are other host names under which people reach the server.
    `announce` is called with the URL once the server answers.

    Raises:
        InputError: the secret is missing or too short, or the server cannot listen there.
    """
    is_local = _is_loopback(host)
    if not is_local and secret is None:
        raise InputError(
            f"expected a secret to serve at {host}: put one into the environment as SEMIDC_SECRET"
        )
    if secret is not None and len(secret) < MIN_SECRET:
        raise InputError(
            f"expected a secret of at least {MIN_SECRET} characters in SEMIDC_SECRET, "
            f"got {len(secret)}"
        )
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    url_host = f"[{host}]" if ":" in host else host
    own_names = {url_host, *names}
    if is_local:
        own_names.update(("127.0.0.1", "localhost", "[::1]"))
    hosts = {f"{name}:{port}" for name in own_names} | set(names)
    app = make_app(project, images, hosts, secret)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    server = _Server(config, lambda: announce(f"http://{url_host}:{port}/"))
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:  # also an invalid port or name
        reason = getattr(error, "strerror", None) or error
        problem = f"{host}:{port}: cannot listen there: {reason}; name another --port"
        raise InputError(problem) from None


class _Server(uvicorn.Server):
    """A server that announces its URL only once it answers requests and handles Ctrl-C."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()


def _describe(
    project: Project, annotator: str, item: Item | None, adjudicate: bool
) -> dict[str, Any]:
    """Return what the page shows."""
    ahead = project.peek(annotator, item) if item and not adjudicate else None
    return {
        "annotator": annotator,
        "item": _describe_item(item) if item else None,
        "votes": project.votes(item.id)[:MAX_VOTES] if item and adjudicate else [],
        "ahead": f"/picture/{ahead.sha256}" if ahead else None,
        "progress": project.progress(annotator)._asdict(),
        "undo": project.last_decision(annotator),
        "adjudicate": adjudicate,
    }


def _describe_item(item: Item) -> dict[str, Any]:
    domain, _ = parse_image_path(item.image_id)
    return {
        "id": item.id,
        "picture": f"/picture/{item.sha256}",
        "image_id": item.image_id,
        "category": item.category,
        "triplet": item.triplet,
        "question": make_question(domain, item.category, item.triplet, article=spoken_article),
    }


def _make_file_route(name: str) -> Callable[[], FileResponse]:
    return lambda: FileResponse(FOLDER / name)


def _sign(key: bytes, name: str) -> str:
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
