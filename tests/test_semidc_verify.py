"""The HTTP interface of the page: what it serves, whom it admits, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal, hash_picture
from mmrel_kit.semidc.people import server as verify
from mmrel_kit.semidc.people.store import Project
from tests.helpers.labelling import FIRST as PICTURE
from tests.helpers.labelling import draw_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1:8008"
SECRET = "a long shared secret"
ID = "0123456789abcdef" * 2


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    draw_picture(tmp_path / "images", PICTURE)
    (tmp_path / "images/secret.txt").write_text("not for anybody")
    made = Project(tmp_path / "project.sqlite", make=True)
    sha256 = hash_picture(tmp_path / "images", PICTURE, "")
    for relation in ("sit", "ride"):
        triplet = Triplet("person", relation, "unicorn")
        made.add([(Proposal(PICTURE, "action", triplet, 0.5, None, "model", "test"), sha256)])
    yield made
    made.close()


def make_client(
    project: Project, secret: str | None = None, name: str | None = "ann"
) -> TestClient:
    app = verify.make_app(project, project.path.parent / "images", [HOST], secret)
    client = TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False)
    if name:
        assert (
            client.post("/api/sign-in", json={"name": name, "secret": secret or ""}).status_code
            == 200
        )
    return client


@pytest.fixture
def client(project: Project) -> TestClient:
    return make_client(project)


def dump(project: Project) -> list[str]:
    """Everything that is written, leases as well."""
    with sqlite3.connect(project.path) as db:
        return list(db.iterdump())


def decide(client: TestClient, **changes: Any) -> Any:
    return client.post("/api/decisions", json={"id": ID, "item": 1, "verdict": "accept"} | changes)


def test_an_item_is_shown_with_its_question_in_right_articles(client: TestClient) -> None:
    shown = client.post("/api/next", json={}).json()
    assert shown["item"]["triplet"] == ["person", "sit", "unicorn"]
    assert shown["item"]["question"] == "Does a person sit a unicorn in the image?"
    assert shown["progress"] == {"mine": 0, "settled": 0, "disputed": 0, "items": 2}
    picture = client.get(shown["item"]["picture"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in picture.headers["cache-control"]


def test_a_decision_shows_what_is_next_and_is_kept_once(
    client: TestClient, project: Project
) -> None:
    client.post("/api/next", json={})
    answers = [
        decide(client, verdict="correct", triplet=["A person", "standing", "the unicorn"])
        for _ in range(2)
    ]
    assert [answer.json()["item"]["id"] for answer in answers] == [2, 2]
    assert [(d.verdict, d.triplet) for d in project.decisions()] == [
        ("correct", Triplet("person", "stand", "unicorn"))
    ]


def test_a_correction_to_the_same_is_an_acceptance(client: TestClient, project: Project) -> None:
    client.post("/api/next", json={})
    assert (
        decide(client, verdict="correct", triplet=["person", "sits", "unicorn"]).status_code == 200
    )
    assert [d.verdict for d in project.decisions()] == ["accept"]


def test_names_that_people_type_stay_whole(client: TestClient, project: Project) -> None:
    # "panda bear" became "pandbear".
    client.post("/api/next", json={})
    typed = ["the panda bear", "hold", "a pizza box"]
    assert decide(client, verdict="correct", triplet=typed).status_code == 200
    assert [d.triplet for d in project.decisions()] == [Triplet("panda bear", "hold", "pizza box")]


def test_the_page_says_why_such_a_word_is_refused(client: TestClient, project: Project) -> None:
    client.post("/api/next", json={})
    reply = decide(client, verdict="correct", triplet=["person", "above", "unicorn"])
    expected = "expected a verb (hold, ride, eat …), got the spatial word 'above'"
    assert (reply.status_code, reply.json()) == (422, {"detail": expected})
    assert not list(project.decisions())


def test_undo_shows_the_item_again(client: TestClient, project: Project) -> None:
    client.post("/api/next", json={})
    undo = decide(client).json()["undo"]
    shown = client.post("/api/undo", json={"id": undo}).json()
    assert (shown["item"]["id"], shown["undo"]) == (1, None)
    assert not list(project.decisions())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"item": 2}, 409),
        ({"item": 99}, 409),
        ({"item": 2**70}, 422),
        ({"item": "1"}, 422),
        ({"item": True}, 422),
        ({"id": "x"}, 422),
        ({"id": ID + "\n"}, 422),
        ({"verdict": "maybe"}, 422),
        ({"verdict": "correct"}, 422),
        ({"verdict": "correct", "triplet": ["person", "stand"]}, 422),
        ({"verdict": "correct", "triplet": ["person", "stand very upright", "unicorn"]}, 422),
        ({"verdict": "correct", "triplet": ["person", "stand", "\u202eunicorn"]}, 422),
        ({"verdict": "correct", "triplet": ["person", "stand", "\ud800"]}, 422),
        ({"verdict": "correct", "triplet": ["person", "stand", " "]}, 422),
        # It became "Does a person above a unicorn in the image?", with the answer yes.
        ({"verdict": "correct", "triplet": ["person", "above", "unicorn"]}, 422),
        ({"triplet": ["person", "stand", "unicorn"]}, 422),
        ({"seconds": -1}, 422),
        ({"seconds": 1e300}, 422),
        ({"annotator": "ben"}, 422),
    ],
)  # fmt: skip
def test_a_decision_that_is_not_right_writes_nothing(
    client: TestClient, project: Project, changes: dict[str, Any], status: int
) -> None:
    client.post("/api/next", json={})
    before = dump(project)
    body = json.dumps({"id": ID, "item": 1, "verdict": "accept"} | changes)
    answer = client.post(
        "/api/decisions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert dump(project) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:9999"}, 421),
        ({"Host": "localhost.evil.example:8008"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"http://{HOST}.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)  # fmt: skip
def test_requests_from_elsewhere_write_nothing(
    client: TestClient, project: Project, headers: dict[str, str], status: int
) -> None:
    client.post("/api/next", json={})
    before = dump(project)
    body = json.dumps({"id": ID, "item": 1, "verdict": "accept"})
    sent = {"Content-Type": "application/json", **headers}
    assert client.post("/api/decisions", content=body, headers=sent).status_code == status
    assert dump(project) == before


def test_the_page_itself_may_write(client: TestClient) -> None:
    client.post("/api/next", json={})
    headers = {
        "Origin": f"http://{HOST}",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/json",
    }
    body = json.dumps({"id": ID, "item": 1, "verdict": "accept"})
    assert client.post("/api/decisions", content=body, headers=headers).status_code == 200


def test_too_large_a_body_is_refused(client: TestClient) -> None:
    assert client.post("/api/next", json={"adjudicate": "x" * 20_000}).status_code == 413
    chunks = (b"{" for _ in range(3))
    headers = {"Content-Type": "application/json"}
    assert client.post("/api/next", content=chunks, headers=headers).status_code == 411


@pytest.mark.parametrize(
    "path",
    [
        "/picture/../project.sqlite",
        "/picture/..%2f..%2fproject.sqlite",
        "/picture/%2e%2e/secret.txt",
        "/picture/secret.txt",
        "/picture/" + PICTURE,
        "/picture/" + "0" * 64,
        "/picture/" + "0" * 63 + "\u0661",
        "/picture//etc/passwd",
        "/page.css/../verify.py",
        "/store.py",
        "/docs",
    ],
)  # fmt: skip
def test_nothing_but_the_project_s_pictures_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_a_picture_that_changed_is_not_served(client: TestClient, project: Project) -> None:
    (project.path.parent / "images" / PICTURE).write_bytes(b"something else")
    assert (
        client.get(client.post("/api/next", json={}).json()["item"]["picture"]).status_code == 404
    )


def test_nobody_is_shown_anything_who_is_not_signed_in(project: Project) -> None:
    client = make_client(project, name=None)
    before = dump(project)
    for path in ("/api/next", "/api/decisions", "/api/undo"):
        assert client.post(path, json={"id": ID, "item": 1, "verdict": "accept"}).status_code in (
            401,
            422,
        )
    assert client.post("/api/next", json={}).status_code == 401
    assert client.get("/api/vocabulary").status_code == 401
    assert client.get(f"/picture/{next(iter(project.pictures().values()))}").status_code == 401
    assert dump(project) == before


@pytest.mark.parametrize(
    "cookie", ["YW5u.0", "YW5u", ".", "YW5u." + "0" * 64, "\xe4.\xe4", "%%%.%%%"]
)
def test_a_name_that_was_not_signed_here_does_not_count(project: Project, cookie: str) -> None:
    client = make_client(project, name=None)
    name = client.app.state.cookie  # type: ignore[attr-defined]
    headers = {"Cookie": f"{name}={cookie}".encode("latin-1"), "Content-Type": "application/json"}
    reply = client.post("/api/next", content=b"{}", headers=headers)  # type: ignore[arg-type]
    assert reply.status_code == 401


def test_the_secret_lets_in(project: Project) -> None:
    client = make_client(project, SECRET, name=None)
    assert client.post("/api/sign-in", json={"name": "ann"}).status_code == 403
    assert (
        client.post("/api/sign-in", json={"name": "ann", "secret": SECRET[:-1]}).status_code == 403
    )
    assert client.post("/api/next", json={}).status_code == 401
    answer = client.post("/api/sign-in", json={"name": " Ann  B ", "secret": SECRET})
    assert answer.json() == {"name": "Ann B"}
    assert {"HttpOnly", "SameSite=strict"} <= set(answer.headers["set-cookie"].split("; "))
    assert client.post("/api/next", json={}).json()["annotator"] == "Ann B"
    other = make_client(project, SECRET, name=None)  # the server again: the signature holds
    other.cookies = client.cookies
    assert other.post("/api/next", json={}).status_code == 200


@pytest.mark.parametrize("name", ["", " ", "a\nb\x00", "\u202e", "x" * 61])
def test_a_name_must_be_one(project: Project, name: str) -> None:
    assert (
        make_client(project, name=None).post("/api/sign-in", json={"name": name}).status_code == 422
    )


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    for path, name in verify.FILES.items():
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.text == (verify.FOLDER / name).read_text("utf-8")
        assert "https://" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "secret", "told"),
    [
        ("0.0.0.0", None, "expected a secret to serve at 0.0.0.0"),
        ("::", None, "expected a secret to serve at ::"),
        ("label.example", None, "expected a secret to serve at label.example"),
        ("127.0.0.1", "short", "expected a secret of at least 12 characters"),
    ],
)  # fmt: skip
def test_beyond_loopback_a_secret_is_demanded(
    project: Project, host: str, secret: str | None, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        verify.serve(project, project.path.parent, host, 0, secret)
