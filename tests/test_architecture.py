# SPDX-License-Identifier: Apache-2.0
"""Check the imports between the rooms of the package with the table in docs/maintaining.md."""

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
MOST_FILES = 9  # in a room, without its __init__.py
MOST_ERRORS = 6  # exception classes of the project

# The other packages that each room may import; all may import the standard library.
HUB = {"datasets", "fsspec", "huggingface_hub"}
LIBRARIES = {
    "mmrel": HUB | {"filelock"},
    "relation_accuracy": set(),
    "upload": set(),
    "files": set(),
    "extras": set(),
    "workers": set(),
    "failures": {"huggingface_hub"},
    "web": {"aiohttp", "yarl"},
    "cli": set(),
    "commands": {"tqdm", "huggingface_hub"},
    "questions": {"pyarrow"},
    "pictures": {"datasets", "PIL"},
    "sources": {"huggingface_hub"},
    "endpoint": {"openai", "tqdm"},
    "scoring": {"huggingface_hub", "matplotlib"},
    "audit": {"imagehash"},
    "card": {"PIL", "yaml"},
    "build": {"PIL", "pyarrow", "yaml"},
    "check": {"huggingface_hub", "pyarrow", "yaml"},
    "hub": HUB | {"pyarrow", "tqdm"},
    "semidc": {"fastapi", "pydantic", "uvicorn", "PIL"},
    "recipes": HUB
    | {"pyarrow", "PIL", "datatrove", "ray", "evaluate", "inspect_ai", "rich"}
    | {"peft", "torch", "transformers", "trl"},
}


def read_table() -> dict[str, set[str]]:
    """Return the rooms that each room may import, by the table in docs/maintaining.md."""
    text = (REPOSITORY / "docs" / "maintaining.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*?) ?\|$", text, re.MULTILINE)
    return {room: set(listed.split(", ")) if listed else set() for room, listed in rows}


def find_room(path: Path) -> str:
    """Return the room or the door of a file."""
    if path.parent == REPOSITORY:
        return path.stem
    return Path(path.relative_to(KIT).parts[0]).stem


def list_files() -> list[Path]:
    """Return the files of the doors and of all rooms."""
    return [*(REPOSITORY / f"{door}.py" for door in DOORS), *sorted(KIT.rglob("*.py"))]


def list_imports(tree: ast.AST, package: str = "") -> Iterator[tuple[ast.stmt, str]]:
    """Yield every import of a file, also within functions, with its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports must be absolute"
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def find_target(name: str) -> str | None:
    """Return the room or the door of an imported name, None for other packages."""
    first, *others = name.split(".")
    if first in DOORS:
        return first
    if first == "mmrel_kit" and others and others[0] in LIBRARIES:
        return others[0]
    return None


def draw_arrows() -> dict[str, dict[str, list[str]]]:
    """Return the rooms that each room imports, with file and line of each import."""
    arrows: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in list_files():
        room = find_room(path)
        for node, name in list_imports(ast.parse(path.read_text("utf-8"))):
            target = find_target(name)
            if target and target != room:
                where = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
                arrows[room][target].append(where)
    return arrows


def test_the_table_lists_every_room() -> None:
    rooms = {Path(path.name).stem for path in KIT.iterdir() if path.name != "__pycache__"}
    assert set(read_table()) == rooms - {"__init__", "sample"}
    assert set(LIBRARIES) == set(read_table()) | set(DOORS)


def test_the_table_lists_exactly_the_imports_of_each_room() -> None:
    table, arrows = read_table(), draw_arrows()
    everything = set(table) - {"cli", "commands"} | {"mmrel", "relation_accuracy"}
    assert table["commands"] == {"everything but cli"}
    for room, listed in table.items():
        imported = arrows[room]
        allowed = everything if room == "commands" else listed
        unlisted = {target: imported[target] for target in set(imported) - allowed}
        assert not unlisted, f"{room} imports what docs/maintaining.md does not list: {unlisted}"
        if room != "commands":
            unused = listed - set(imported)
            assert not unused, f"{room}: docs/maintaining.md lists what it does not import"


def test_no_rooms_import_each_other_in_a_circle() -> None:
    arrows = {room: set(targets) for room, targets in draw_arrows().items()}
    # Its imports of rooms are within functions, for published readers and open-ended answers.
    arrows["relation_accuracy"] = set()
    finished: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, f"a circle: {' -> '.join((*path, room))}"
        if room not in finished:
            for target in sorted(arrows.get(room, ())):
                visit(target, (*path, room))
            finished.add(room)

    for room in list(arrows):
        visit(room, ())


def test_the_two_rooms_of_labelling_do_not_import_each_other() -> None:
    for inner, other in (("model", "people"), ("people", "model")):
        for path in sorted((KIT / "semidc" / inner).glob("*.py")):
            names = [name for _, name in list_imports(ast.parse(path.read_text("utf-8")))]
            assert not [name for name in names if f"semidc.{other}" in name], path


@pytest.mark.parametrize("door", ["mmrel", "relation_accuracy"])
def test_a_door_imports_no_room_at_module_level(door: str) -> None:
    names = []
    for statement in ast.parse((REPOSITORY / f"{door}.py").read_text("utf-8")).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) or is_main(statement):
            continue
        names += [name for _, name in list_imports(statement)]
    assert names
    packages = {name.split(".")[0] for name in names}
    assert "mmrel_kit" not in packages
    if door == "relation_accuracy":
        assert packages <= set(sys.stdlib_module_names)


def is_main(statement: ast.stmt) -> bool:
    """Return whether a statement is `if __name__ == "__main__"`."""
    return isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)


def test_only_doors_import_the_command() -> None:
    for room, targets in draw_arrows().items():
        if room not in DOORS:
            assert "cli" not in targets, targets["cli"]


def test_each_import_has_its_own_line() -> None:
    # datasets 3.6 reads the imports of a script with a regular expression.
    for path in list_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert len(node.names) == 1, f"{path}:{node.lineno}"


@pytest.mark.parametrize("room", LIBRARIES)
def test_a_room_imports_only_its_libraries(room: str) -> None:
    ours = {"mmrel_kit", *DOORS}
    for path in list_files():
        if find_room(path) == room:
            imports = list_imports(ast.parse(path.read_text("utf-8")))
            packages = {name.split(".")[0] for _, name in imports}
            libraries = packages - ours - set(sys.stdlib_module_names)
            assert libraries <= LIBRARIES[room], path


def test_a_room_has_few_files_and_a_short_docstring() -> None:
    for init in sorted(KIT.rglob("__init__.py")):
        files = [path for path in init.parent.glob("*.py") if path != init]
        assert len(files) <= MOST_FILES, init.parent
        docstring = ast.get_docstring(ast.parse(init.read_text("utf-8")))
        assert docstring, init
        assert len(re.findall(r"\.(?:\s|$)", docstring)) <= 2, f"{init}: more than two sentences"


def list_public_classes() -> Iterator[tuple[str, str]]:
    """Yield the name of each public class with its file and line."""
    for path in [*list_files(), *sorted((REPOSITORY / "benchmarks").glob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, f"{path.relative_to(REPOSITORY)}:{node.lineno}"


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in list_public_classes():
        places[name].append(place)
    assert {name: listed for name, listed in places.items() if len(listed) > 1} == {}


def test_there_are_few_exception_classes() -> None:
    errors = [name for name, _ in list_public_classes() if name.endswith("Error")]
    assert len(errors) <= MOST_ERRORS, errors
