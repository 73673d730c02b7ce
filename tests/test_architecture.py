# SPDX-License-Identifier: Apache-2.0
"""Draw the arrows between the rooms, and hold them against the table in docs/maintaining.md."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

KIT = REPOSITORY / "mmrel_kit"
DOORS = ("mmrel", "relation_accuracy", "upload")
MOST_FILES = 9  # of a room, beside its __init__.py
MOST_ERRORS = 5  # exception classes of the project

# What each room may import from others' packages; the standard library is free to all.
HUB = {"datasets", "fsspec", "huggingface_hub"}
LIBRARIES = {
    "mmrel": HUB,
    "relation_accuracy": set(),
    "upload": set(),
    "files": set(),
    "extras": set(),
    "failures": {"huggingface_hub"},
    "cli": set(),
    "commands": {"tqdm", "huggingface_hub"},
    "questions": {"pyarrow"},
    "pictures": {"datasets", "huggingface_hub", "PIL"},
    "endpoint": {"openai", "tqdm"},
    "scoring": {"huggingface_hub", "matplotlib"},
    "audit": {"imagehash"},
    "card": {"PIL", "yaml"},
    "build": {"PIL", "pyarrow", "yaml"},
    "check": {"PIL", "pyarrow", "yaml"},
    "hub": HUB | {"pyarrow", "tqdm"},
    "semidc": {"fastapi", "pydantic", "uvicorn", "PIL"},
    "recipes": HUB
    | {"pyarrow", "PIL", "datatrove", "ray", "evaluate", "inspect_ai", "rich"}
    | {"peft", "torch", "transformers", "trl"},
}


def read_table() -> dict[str, set[str]]:
    """Return what each room may import, as docs/maintaining.md lists it."""
    text = (REPOSITORY / "docs" / "maintaining.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*?) ?\|$", text, re.MULTILINE)
    return {room: set(filter(None, listed.split(", "))) for room, listed in rows}


def find_room(path: Path) -> str:
    """Return the room, or the door, that a file belongs to."""
    if path.parent == REPOSITORY:
        return path.stem
    return Path(path.relative_to(KIT).parts[0]).stem


def list_files() -> list[Path]:
    """Return the files of the doors and of all rooms."""
    return [*(REPOSITORY / f"{door}.py" for door in DOORS), *sorted(KIT.rglob("*.py"))]


def list_imports(tree: ast.AST, package: str = "") -> Iterator[tuple[ast.stmt, str]]:
    """Yield every import of a file, inside functions too, as a dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def draw_arrows() -> dict[str, dict[str, list[str]]]:
    """Return, for each room, the rooms that it imports, with the places."""
    arrows: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in list_files():
        room = find_room(path)
        for node, name in list_imports(ast.parse(path.read_text("utf-8"))):
            first, *others = name.split(".")
            target = others[0] if first == "mmrel_kit" and others else first
            known = target in LIBRARIES and (first == "mmrel_kit" or target in DOORS)
            if known and target != room:
                where = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
                arrows[room][target].append(where)
    return arrows


def test_the_table_lists_every_room() -> None:
    rooms = {Path(path.name).stem for path in KIT.iterdir() if path.name != "__pycache__"}
    assert set(read_table()) == rooms - {"__init__", "sample"}
    assert set(LIBRARIES) == set(read_table()) | set(DOORS)


def test_every_arrow_is_in_the_table_and_is_drawn() -> None:
    table, arrows = read_table(), draw_arrows()
    everything = set(table) - {"cli", "commands"} | {"mmrel", "relation_accuracy"}
    assert table["commands"] == {"everything but cli"}
    for room, listed in table.items():
        drawn = arrows[room]
        allowed = everything if room == "commands" else listed
        unlisted = {target: drawn[target] for target in set(drawn) - allowed}
        assert not unlisted, f"{room} imports what docs/maintaining.md does not list: {unlisted}"
        if room != "commands":
            assert not listed - set(drawn), f"{room}: the table lists arrows that nothing draws"


def test_no_circle() -> None:
    arrows = {room: set(targets) for room, targets in draw_arrows().items()}
    # Only inside functions, when a published reader or an open-ended answer is asked for.
    arrows["relation_accuracy"] = set()
    finished: set[str] = set()

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, f"a circle: {' -> '.join((*way, room))}"
        if room not in finished:
            for target in sorted(arrows.get(room, ())):
                visit(target, (*way, room))
            finished.add(room)

    for room in list(arrows):
        visit(room, ())


def test_the_rooms_of_labelling() -> None:
    # `model` and `people` share what is in semidc itself, and know nothing of each other.
    for inner, other in (("model", "people"), ("people", "model")):
        for path in sorted((KIT / "semidc" / inner).glob("*.py")):
            names = [name for _, name in list_imports(ast.parse(path.read_text("utf-8")))]
            assert not [name for name in names if f"semidc.{other}" in name], path


@pytest.mark.parametrize("door", ["mmrel", "relation_accuracy"])
def test_a_door_imports_no_room_at_module_level(door: str) -> None:
    tree = ast.parse((REPOSITORY / f"{door}.py").read_text("utf-8"))
    at_top = [
        name
        for statement in tree.body
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and not is_main(statement)
        for _, name in list_imports(statement)
    ]
    assert at_top
    assert not [name for name in at_top if name.startswith("mmrel_kit")]
    if door == "relation_accuracy":
        assert {name.split(".")[0] for name in at_top} <= set(sys.stdlib_module_names)


def is_main(statement: ast.stmt) -> bool:
    """Return whether a statement runs only where the file is run."""
    return isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)


def test_only_doors_import_the_command() -> None:
    for room, targets in draw_arrows().items():
        if room not in DOORS:
            assert "cli" not in targets, targets["cli"]


def test_imports_are_one_a_line() -> None:
    # datasets 3.6 reads them with a regular expression.
    for path in list_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert len(node.names) == 1, f"{path}:{node.lineno}"


@pytest.mark.parametrize("room", LIBRARIES)
def test_the_libraries_of_a_room(room: str) -> None:
    ours = {"mmrel_kit", *DOORS}
    for path in list_files():
        if find_room(path) == room:
            names = {name.split(".")[0] for _, name in list_imports(ast.parse(path.read_text()))}
            foreign = names - ours - set(sys.stdlib_module_names)
            assert foreign <= LIBRARIES[room], path


def test_a_room_has_few_files_and_says_what_it_is_for() -> None:
    for init in sorted(KIT.rglob("__init__.py")):
        files = [path for path in init.parent.glob("*.py") if path != init]
        assert len(files) <= MOST_FILES, init.parent
        text = ast.get_docstring(ast.parse(init.read_text("utf-8")))
        assert text, init
        assert len(re.findall(r"\.(?:\s|$)", text)) <= 2, f"{init}: two sentences"


def test_no_name_is_bound_to_two_public_classes() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    errors = []
    for path in list_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
                if node.name.endswith("Error"):
                    errors.append(node.name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
    assert len(errors) <= MOST_ERRORS, errors
