# SPDX-License-Identifier: Apache-2.0
"""Finish a release: join its shards, write what is beside the data, and put it in its place."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit.audit.findings import audit_release
from mmrel_kit.audit.page import make_blocks
from mmrel_kit.build.hub_eval import write_hub_eval
from mmrel_kit.build.shards import list_versions
from mmrel_kit.card import croissant
from mmrel_kit.card.hub_eval import find_splits
from mmrel_kit.card.readme import (
    EXAMPLE,
    TEMPLATE,
    CardContent,
    make_card_content,
    make_dataset_infos,
    make_example_picture,
    make_row,
    read_card,
    render_card,
)
from mmrel_kit.card.stats import merge_stats
from mmrel_kit.files import (
    INDEX,
    PROJECT,
    SCHEMAS,
    InputError,
    describe_file,
    name_aside,
    write_bytes,
    write_json_lines,
)
from mmrel_kit.pictures.archives import read_archives

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmrel_kit.build.plan import BuildPlan
    from mmrel_kit.build.shards import ShardManifest, WorkFolder
    from mmrel_kit.card.stats import SplitStats
    from mmrel_kit.questions.table import Partners

CARD = "README.md"
MISSING = "missing.jsonl"


class BuildSummary(NamedTuple):
    """What a build made.

    Attributes:
        facts: of each split.
        partners: of the yes/no questions, by split and category.
        left_out: a sentence on the questions that were left out, or None.
        assumed: how many questions of an annotation file went to `test`, as nothing names a split.
    """

    facts: list[SplitStats]
    partners: dict[tuple[str, str], Partners]
    left_out: str | None
    assumed: dict[str, int]


def check_out(out: Path) -> None:
    """Check that nothing but a release would be lost in `out`.

    Raises:
        InputError: it is a file, or holds files that are not a release's.
    """
    if not out.exists():
        return
    if not out.is_dir():
        wanted = "expected a folder or nothing, got a file"
        raise InputError(f"{out}: {wanted}; name another --out")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        listed = {*mmrel.Release(out).files, INDEX}
    except (OSError, mmrel.ReleaseError):
        listed = set()
    foreign = sorted(found - listed)
    if foreign:
        number = f"{len(foreign)} files that no {INDEX} lists"
        wanted = f"expected nothing or a release there, found {foreign[0]!r} ({number})"
        raise InputError(f"{out}: {wanted}; name another --out or empty it")


def join_shards(plan: BuildPlan, work: WorkFolder, parts: Sequence[ShardManifest]) -> BuildSummary:
    """Join the shards of a release with all that is beside them, and move it to its place."""
    parts = sorted(parts, key=lambda part: part.name)
    facts = merge_stats(part.facts for part in parts)
    files = {name: described for part in parts for name, described in part.files.items()}
    _clear(work.release, set(files))
    _join_records(work, parts)
    left_out = plan.get_meta("left out")
    sentences = filter(None, (plan.get_meta("note"), left_out))
    note = " ".join(sentences) or None
    _write_texts(plan, work.release, facts)
    if plan.get_meta("hub eval"):
        write_hub_eval(work.release)
    for path in sorted(work.release.rglob("*")):
        name = path.relative_to(work.release).as_posix()
        if path.is_file() and name not in files:
            files[name] = describe_file(path)
    described = croissant.make_croissant(facts, files, note)
    (work.release / croissant.NAME).write_text(described, "utf-8", newline="\n")
    files[croissant.NAME] = describe_file(work.release / croissant.NAME)
    (work.release / INDEX).write_text(make_index(files, note), "utf-8", newline="\n")
    _write_card(work.release, facts, note)
    built = BuildSummary(facts, plan.count_partners(), left_out, plan.get_meta("assumed") or {})
    _replace_folder(work.release, work.out)
    shutil.rmtree(work.root)
    return built


def make_index(files: dict[str, dict[str, Any]], note: str | None) -> str:
    """Return the text of checksums.json: sha256 and size of each file, and what wrote them."""
    index = {
        "name": "mmrel",
        "version": mmrel.__version__,
        "note": note,
        "written_by": list_versions(),
        "files": dict(sorted(files.items())),
    }
    return _dump(index)


def replace_file(release: Path, name: str, data: bytes) -> None:
    """Write a file of a release anew, and what checksums.json says of it."""
    index = mmrel.parse_index((release / INDEX).read_bytes())
    write_bytes(release / name, data)
    index["files"][name] = describe_file(release / name)
    index["files"] = dict(sorted(index["files"].items()))
    write_bytes(release / INDEX, _dump(index).encode())


def update_card(release: Path, blocks: Mapping[str, str]) -> None:
    """Put other blocks into the card of a release, such as those of an audit, by their names."""
    card = (release / CARD).read_text("utf-8")
    generated = read_card(card)
    renewed = CardContent(generated.front_matter, {**generated.blocks, **blocks})
    replace_file(release, CARD, render_card(card, renewed, keep_project=True).encode())


def _dump(index: dict[str, Any]) -> str:
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def _clear(release: Path, keep: set[str]) -> None:
    """Delete leftovers of an interrupted build, with other input or while it finished."""
    for path in sorted(release.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(release).as_posix() not in keep:
            path.unlink()


def _join_records(work: WorkFolder, parts: Sequence[ShardManifest]) -> None:
    """Append the records of each shard to those of its split."""
    for part in parts:
        split = work.release / "data" / part.facts.domain / f"{part.facts.split}.jsonl"
        shard = work.parts / f"{part.name}.jsonl"
        with open(split, "ab") as lines, open(shard, "rb") as records:
            shutil.copyfileobj(records, lines)


def _write_texts(plan: BuildPlan, release: Path, facts: list[SplitStats]) -> None:
    """Write what a release has beside its data."""
    for name in (*SCHEMAS, "LICENSE"):
        _copy(PROJECT / name, release / name)
    _copy(Path(mmrel.__file__), release / "loader" / "mmrel.py")
    if plan.get_meta("missing"):
        write_json_lines(
            release / MISSING, (missing._asdict() for missing in plan.missing_pictures())
        )
    infos = make_dataset_infos(facts)
    (release / "dataset_infos.json").write_text(infos, "utf-8", newline="\n")


def _write_card(release: Path, facts: list[SplitStats], note: str | None) -> None:
    """Write the card, with an example and an audit of the release.

    checksums.json is valid before and after.
    """
    record, picture = _find_example(mmrel.Release(release))
    replace_file(release, EXAMPLE, make_example_picture(picture, record["image_id"]))
    audited = make_blocks(audit_release(release, thorough=False))
    blocks = {**audited, "row": make_row(record)}
    generated = make_card_content(facts, note, blocks, find_splits(release))
    card = render_card(TEMPLATE.read_text("utf-8"), generated)
    replace_file(release, CARD, card.encode())


def _find_example(release: mmrel.Release) -> tuple[dict[str, Any], bytes]:
    """Return a question, of a true relation where there is one, and the bytes of its picture."""
    archives = [name for names in release.archives("all").values() for name in names]
    # MMRel's own pictures first: those of the other domains have owners and terms of their own.
    archives.sort(key=lambda name: mmrel.DOMAINS.index(name.split("/")[1]), reverse=True)
    records, picture = next(read_archives(release, archives))
    for record in records:
        if record["answer"] == "yes":
            return record, picture
    return records[0], picture


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _replace_folder(work: Path, out: Path) -> None:
    """Put the finished folder in place; an older release goes only once the new one can follow."""
    if not out.exists():
        os.rename(work, out)
        return
    old = name_aside(out)
    os.rename(out, old)
    os.rename(work, out)
    shutil.rmtree(old, ignore_errors=True)
