"""Fuzz the HTTP interface by its OpenAPI schema: no crash, and invalid requests write nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="pip install .[test,browser]")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from mmrel_kit.questions.records import Triplet  # noqa: E402
from mmrel_kit.semidc.items import Proposal, hash_picture  # noqa: E402
from mmrel_kit.semidc.people import server as verify  # noqa: E402
from mmrel_kit.semidc.people.store import Project  # noqa: E402
from tests.helpers.labelling import FIRST as PICTURE  # noqa: E402
from tests.helpers.labelling import draw_picture  # noqa: E402

if TYPE_CHECKING:
    from schemathesis import Case

pytestmark = pytest.mark.browser
HOST = "127.0.0.1:8008"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("fuzz")
    draw_picture(folder, PICTURE)
    made = Project(folder / "project.sqlite", make=True)
    sha256 = hash_picture(folder, PICTURE, "")
    triplets = (Triplet("person", "ride", f"horse {n}") for n in range(500))
    made.add(
        (Proposal(PICTURE, "action", triplet, 0.5, None, "model", "fuzz"), sha256)
        for triplet in triplets
    )
    return made


@pytest.fixture(scope="module")
def app(project: Project) -> Any:
    return verify.make_app(project, Path(project.path).parent, [HOST])


# That a correction needs a triplet, and which words make one, no schema says.
NOT_IN_A_SCHEMA = positive_data_acceptance
FUZZ = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
OPERATIONS = (
    "POST /api/sign-in",
    "POST /api/next",
    "POST /api/decisions",
    "POST /api/undo",
    "GET /api/vocabulary",
    "GET /picture/{sha256}",
)


def dump(project: Project) -> list[str]:
    with sqlite3.connect(project.path) as db:
        return [
            line for line in db.iterdump() if "leases" not in line
        ]  # an item that is shown is no decision


def test_every_operation_is_fuzzed(app: Any) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": HOST})
    assert {result.ok().label for result in schema.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize("signed_in", [True, False], ids=["signed in", "signed out"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_crash_and_nothing_written_by_what_is_invalid(
    project: Project, app: Any, label: str, signed_in: bool
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": HOST})
    operation = schema.find_operation_by_label(label)
    name = "YW5u"  # ann
    cookies = (
        {app.state.cookie: f"{name}.{verify._sign(project.signing_key(), name)}"}
        if signed_in
        else {}
    )
    modes = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @given(st.one_of(*modes))
    @FUZZ
    def fuzz(case: Case) -> None:
        before = dump(project)
        response = case.call(headers={"Host": HOST}, cookies=cookies)
        case.validate_response(response, excluded_checks=[NOT_IN_A_SCHEMA])
        assert response.status_code < 500
        if response.status_code >= 400 or not signed_in:
            assert dump(project) == before

    fuzz()
