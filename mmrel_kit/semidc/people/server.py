# SPDX-License-Identifier: Apache-2.0
"""Serves the page on which people verify: a few JSON calls over a project file, and the pictures of its list."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi import Path as UrlPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mmrel_kit.endpoint import media_type
from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet, make_question, parse_image_path
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import Item
from mmrel_kit.semidc.people.store import Decision, Project
from mmrel_kit.semidc.words import make_triplet, spoken_article

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

FOLDER = Path(__file__).resolve().parent
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
MAX_BODY = 16 << 10  # bytes of a request; a decision has a few hundred
MIN_SECRET = 12  # characters
MAX_VOTES = 20
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_REASONS = {
    400: "no JSON, or no text",
    401: "not signed in",
    403: "from another site, or with another secret",
    404: "no such picture of the project",
    409: "not the item shown, or decided meanwhile",
    411: "without a length",
    413: "too large",
    415: "not application/json",
    421: "sent to another name",
    422: "not of this shape, or words that make no question",
}

Id = Annotated[
    str,
    Field(pattern="^[0-9a-f]{32}$", description="made by the client; sent again, it is kept once"),
]
Word = Annotated[str, Field(min_length=1, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


class SignIn(_Body):
    """Who verifies, and the secret that they were given."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    secret: Annotated[str, Field(max_length=200)] = ""


class Next(_Body):
    """What to show: the next item, or the next one that people disagree on."""

    adjudicate: bool = False


class Decide(_Body):
    """A decision on the item shown; a correction gives the whole triplet."""

    id: Id
    item: Annotated[int, Field(ge=1, le=2**53)]
    verdict: Literal["accept", "correct", "reject", "skip"]
    triplet: Annotated[list[Word], Field(min_length=3, max_length=3)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86400)] | None = None
    adjudicate: bool = False


class Undo(_Body):
    """The decision to take back."""

    id: Id


def make_app(
    project: Project, images: Path, hosts: Iterable[str], secret: str | None = None
) -> FastAPI:
    """The application over a project file.

    Args:
        project: the project file.
        images: folder that holds the pictures at their paths.
        hosts: what the Host header may say, each with its port where there is one.
        secret: what one has to know to sign in; null lets everybody in who reaches the server.
    """
    app = FastAPI(title="MMRel: verify", docs_url=None, redoc_url=None)
    app.state.project, app.state.images, app.state.secret = project, images, secret
    app.state.key = project.signing_key()
    app.state.cookie = (
        "semidc-" + hashlib.sha256(app.state.key).hexdigest()[:12]
    )  # ports share a browser's cookies
    allowed = frozenset(host.lower() for host in hosts)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        problem = find_request_problem(request, allowed)
        response = (
            JSONResponse({"detail": problem[1]}, problem[0]) if problem else await go_on(request)
        )
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.exception_handler(RequestValidationError)(refuse)
    for url, name in FILES.items():
        app.add_api_route(url, _make_sender(name), methods=["GET"], include_in_schema=False)
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": reason} for status, reason in _REASONS.items()
    }
    app.post("/api/sign-in", responses=refused)(sign_in)
    app.post("/api/next", responses=refused)(show_next)
    app.post("/api/decisions", responses=refused)(decide)
    app.post("/api/undo", responses=refused)(undo)
    app.get("/api/vocabulary", responses=refused)(show_vocabulary)
    app.get("/picture/{sha256}", responses=refused, response_class=Response)(show_picture)
    return app


def find_request_problem(request: Request, hosts: frozenset[str]) -> tuple[int, str] | None:
    """Status and message for a request that no page of ours sends: from another site, to another name, too large."""
    headers, host = request.headers, request.headers.get("host", "").lower()
    if host not in hosts:
        return 421, f"expected the host {' or '.join(sorted(hosts))}, got {host[:80]!r}"
    if request.method in ("GET", "HEAD"):
        return None
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return 403, "expected a request from this page, got one from another site"
    if (origin := headers.get("origin")) is not None and origin.lower() not in (
        f"http://{host}",
        f"https://{host}",
    ):
        return 403, f"expected a request from this page, got one from {origin[:80]!r}"
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "expected the content type application/json"
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return 411, "expected a content length"
    return (
        (413, f"expected at most {MAX_BODY} bytes, got {length}")
        if int(length[:12]) > MAX_BODY
        else None
    )


async def refuse(_: Request, error: Exception) -> Response:
    """Say what is wrong with a request without repeating what it held, which need not even be text."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    told = "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems
    )
    return JSONResponse({"detail": told.encode("ascii", "backslashreplace").decode()[:1000]}, 422)


def get_annotator(request: Request) -> str:
    """Who is signed in, by the signed cookie."""
    name, _, signature = request.cookies.get(request.app.state.cookie, "").partition(".")
    if name and hmac.compare_digest(
        _sign(request.app.state.key, name).encode(), signature.encode("utf-8", "replace")
    ):
        return base64.urlsafe_b64decode(name).decode()
    raise HTTPException(401, "sign in with your name")


Annotator = Annotated[str, Depends(get_annotator)]


def sign_in(body: SignIn, request: Request, response: Response) -> dict[str, Any]:
    """Take a name; it is kept in a signed cookie that scripts cannot read and other sites cannot send."""
    state, name = request.app.state, " ".join(body.name.split())
    if not name or not name.isprintable():
        raise HTTPException(422, "expected a name of printable characters")
    if state.secret is not None and not hmac.compare_digest(
        body.secret.encode(), state.secret.encode()
    ):
        raise HTTPException(403, "this is not the secret that was agreed on")
    coded = base64.urlsafe_b64encode(name.encode()).decode()
    response.set_cookie(
        state.cookie,
        f"{coded}.{_sign(state.key, coded)}",
        max_age=30 * 86400,
        httponly=True,
        samesite="strict",
    )
    return {"name": name}


def show_next(body: Next, annotator: Annotator, request: Request) -> dict[str, Any]:
    """The item that the annotator is to see."""
    project: Project = request.app.state.project
    item = project.next_item(annotator, body.adjudicate)
    return _describe(project, annotator, item, body.adjudicate)


def decide(body: Decide, annotator: Annotator, request: Request) -> dict[str, Any]:
    """Keep a decision, and show what is next."""
    project: Project = request.app.state.project
    item = project.find_item(body.item)
    if (body.verdict == "correct") != (body.triplet is not None):
        raise HTTPException(422, "expected a triplet with a correction, and with nothing else")
    if item is None:
        raise HTTPException(409, "there is no such item")
    verdict, triplet = body.verdict, None
    try:
        if body.triplet:
            triplet = make_triplet(parse_image_path(item.image_id)[0], item.category, *body.triplet)
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
    """Take back the annotator's last decision, and show its item again."""
    project: Project = request.app.state.project
    try:
        item, adjudicates = project.undo(annotator, body.id)
    except InputError as error:
        raise HTTPException(409, str(error)) from None
    return _describe(project, annotator, item, adjudicates)


def show_vocabulary(annotator: Annotator, request: Request) -> dict[str, Any]:
    """Words to complete what people type: relations by category, names of things."""
    relations = {
        category: [
            {"name": relation.name, "synonyms": relation.synonyms}
            for relation in vocabulary.relations.values()
        ]
        for category, vocabulary in read_taxonomy().categories.items()
    }
    return {"relations": relations, "names": request.app.state.project.list_names()}


def show_picture(
    sha256: Annotated[str, UrlPath(pattern="^[0-9a-f]{64}$")],
    annotator: Annotator,
    request: Request,
) -> Response:
    """A picture of the project's list, and none but those; it is what people judge only while its hash is the same."""
    image_id = request.app.state.project.find_picture(sha256)
    try:
        data = (request.app.state.images / image_id).read_bytes() if image_id else b""
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise HTTPException(404, "no such picture, or it is missing or changed")
    return Response(
        data,
        media_type=media_type(data),
        headers={"Cache-Control": "private, max-age=604800, immutable"},
    )


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

    Args:
        project: the project file.
        images: folder that holds the pictures at their paths.
        host: address to listen at.
        port: 0 takes a free one.
        secret: needed beyond loopback.
        names: other host names under which people reach the server.
        announce: is told the address once it is open.

    Raises:
        InputError: there is no secret, or a short one, beyond loopback; or the address is taken.
    """
    if not _is_loopback(host) and secret is None:
        raise InputError(
            f"expected a secret to serve at {host}: put one into the environment as SEMIDC_SECRET"
        )
    if secret is not None and len(secret) < MIN_SECRET:
        raise InputError(
            f"expected a secret of at least {MIN_SECRET} characters in SEMIDC_SECRET, got {len(secret)}"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:  # a port or a name that cannot be
        reason = getattr(error, "strerror", None) or error
        where = f"{host}:{port}"
        raise InputError(f"{where}: cannot listen there: {reason}; name another --port") from None
    port = listening.getsockname()[1]
    known = {
        f"[{host}]" if ":" in host else host,
        *names,
        *(("127.0.0.1", "localhost", "[::1]") if _is_loopback(host) else ()),
    }
    hosts = {f"{name}:{port}" for name in known} | set(names)
    app = make_app(project, images, hosts, secret)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    _Server(config, lambda: announce(url)).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Announce the address once requests are answered and Ctrl-C is caught, not before."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()


def _describe(
    project: Project, annotator: str, item: Item | None, adjudicate: bool
) -> dict[str, Any]:
    """What the page needs to know."""
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
        "question": make_question(
            domain, item.category, Triplet(*item.triplet), article=spoken_article
        ),
    }


def _make_sender(name: str) -> Callable[[], FileResponse]:
    return lambda: FileResponse(FOLDER / name)


def _sign(key: bytes, name: str) -> str:
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
