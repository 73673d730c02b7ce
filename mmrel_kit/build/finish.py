# SPDX-License-Identifier: Apache-2.0
"""Finishes a release: joins its shards, writes what stands beside the data, and puts it in its place in one step."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit.audit.findings import audit_release
from mmrel_kit.audit.page import make_blocks
from mmrel_kit.build.hub_eval import write_hub_eval
from mmrel_kit.build.pack import make_versions
from mmrel_kit.card import croissant
from mmrel_kit.card.facts import merge_facts
from mmrel_kit.card.hub_eval import find_splits
from mmrel_kit.card.readme import (
    EXAMPLE,
    TEMPLATE,
    fill_template,
    generate,
    make_dataset_infos,
    make_example_picture,
    make_row,
)
from mmrel_kit.files import INDEX, PROJECT, InputError, describe_file, write_bytes
from mmrel_kit.pictures.archives import read_archives

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mmrel_kit.build.pack import Part, Workplace
    from mmrel_kit.build.plan import Plan
    from mmrel_kit.card.facts import Facts
    from mmrel_kit.questions.table import Partners

MISSING = "missing.jsonl"


class Built(NamedTuple):
    """What a build made.

    Attributes:
        facts: of each split.
        partners: how the yes/no questions stand together, by split and category.
        left_out: a sentence on the questions that were left out, or None.
        assumed: how many questions of an annotation file went to `test`, as nothing names a split.
    """

    facts: list[Facts]
    partners: dict[tuple[str, str], Partners]
    left_out: str | None
    assumed: dict[str, int]


def check_out(out: Path) -> None:
    """Raise `InputError` where `out` holds something that is not a release's and would be lost."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: expected a folder or nothing, got a file; name another --out")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        listed = set(json.loads((out / INDEX).read_text("utf-8"))["files"]) | {INDEX}
    except (OSError, ValueError, KeyError, TypeError):
        listed = set()
    if foreign := sorted(found - listed):
        raise InputError(
            f"{out}: expected nothing or a release there, found {foreign[0]!r} ({len(foreign)} files that no "
            f"{INDEX} lists); name another --out or empty it"
        )


def join_parts(plan: Plan, work: Workplace, parts: Sequence[Part]) -> Built:
    """Join the shards of a release: records, schema, loader, card, checksums; then move it to its place."""
    parts = sorted(parts, key=lambda part: part.name)
    facts = merge_facts(part.facts for part in parts)
    files = {name: described for part in parts for name, described in part.files.items()}
    _clear(work.release, set(files))
    for part in parts:
        with (
            open(work.release / "data" / part.facts.domain / f"{part.facts.split}.jsonl", "ab") as lines,
            open(work.parts / f"{part.name}.jsonl", "rb") as records,
        ):
            shutil.copyfileobj(records, lines)
    note, left_out = plan.told("note"), plan.told("left out")
    note = " ".join(str(sentence) for sentence in (note, left_out) if sentence) or None
    _write_texts(plan, work.release, facts, note)
    if plan.told("hub eval"):
        write_hub_eval(work.release)
    for path in sorted(work.release.rglob("*")):
        name = path.relative_to(work.release).as_posix()
        if path.is_file() and name not in files:
            files[name] = describe_file(path)
    (work.release / croissant.NAME).write_text(croissant.make_croissant(facts, files, note), "utf-8", newline="\n")
    files[croissant.NAME] = describe_file(work.release / croissant.NAME)
    (work.release / INDEX).write_text(make_index(files, note), "utf-8", newline="\n")
    _write_card(work.release, facts, note)
    assumed: Any = plan.told("assumed") or {}
    built = Built(facts, plan.count_partners(), str(left_out) if left_out else None, assumed)
    _replace_folder(work.release, work.out)
    shutil.rmtree(work.root)
    return built


def make_index(files: dict[str, dict[str, Any]], note: str | None) -> str:
    """Text of checksums.json: sha256 and size of each file, and the versions of what wrote them."""
    index = {
        "name": "mmrel",
        "version": mmrel.__version__,
        "note": note,
        "written_by": make_versions(),
        "files": dict(sorted(files.items())),
    }
    return _dump(index)


def _dump(index: dict[str, Any]) -> str:
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def _clear(release: Path, keep: set[str]) -> None:
    """Take away what is no part of the release: of a build that was stopped, with other input or while it finished."""
    for path in sorted(release.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(release).as_posix() not in keep:
            path.unlink()


def _write_texts(plan: Plan, release: Path, facts: list[Facts], note: str | None) -> None:
    """What a release has beside its data."""
    for name in ("schema/record.schema.json", "schema/taxonomy.json", "LICENSE"):
        _copy(PROJECT / name, release / name)
    _copy(PROJECT / "mmrel.py", release / "loader" / "mmrel.py")
    if plan.told("missing"):
        with open(release / MISSING, "w", encoding="utf-8", newline="\n") as lines:
            lines.writelines(json.dumps(missing._asdict()) + "\n" for missing in plan.missing())
    (release / "dataset_infos.json").write_text(make_dataset_infos(facts), "utf-8", newline="\n")


def _write_card(release: Path, facts: list[Facts], note: str | None) -> None:
    """Write the card, with an example and an audit of the release; checksums.json is valid before and after."""
    record, picture = _find_example(mmrel.Release(release))
    renew_file(release, EXAMPLE, make_example_picture(picture, record["image_id"]))
    audited = make_blocks(audit_release(release, thorough=False))
    generated = generate(facts, note, {**audited, "row": make_row(record)}, find_splits(release))
    renew_file(release, "README.md", fill_template(TEMPLATE.read_text("utf-8"), generated).encode())


def _find_example(release: mmrel.Release) -> tuple[dict[str, Any], bytes]:
    """Return a question, of a true relation where there is one, and the bytes of its picture."""
    archives = [name for names in release.archives("all").values() for name in names]
    # MMRel's own pictures first: those of the other domains have owners and terms of their own.
    archives.sort(key=lambda name: mmrel.DOMAINS.index(name.split("/")[1]), reverse=True)
    records, picture = next(read_archives(release, archives))
    return next((record for record in records if record["answer"] == "yes"), records[0]), picture


def renew_file(release: Path, name: str, data: bytes) -> None:
    """Write a file of a release anew, and what checksums.json says of it."""
    index = json.loads((release / INDEX).read_text("utf-8"))
    write_bytes(release / name, data)
    index["files"][name] = describe_file(release / name)
    index["files"] = dict(sorted(index["files"].items()))
    write_bytes(release / INDEX, _dump(index).encode())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _replace_folder(work: Path, out: Path) -> None:
    """Put the finished folder in place; an older release goes only once the new one can follow."""
    old = out.with_name(out.name + ".old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(work, out)
    shutil.rmtree(old, ignore_errors=True)
