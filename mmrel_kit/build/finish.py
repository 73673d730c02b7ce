# SPDX-License-Identifier: Apache-2.0
"""Finish a release: join its shards, write the files beside them, and move it into place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.audit.findings import audit_release
from mmrel_kit.audit.render import render_blocks
from mmrel_kit.build.hub_eval import write_hub_eval
from mmrel_kit.build.plan import BuildPlan
from mmrel_kit.build.shards import ShardManifest, WorkFolder, list_versions
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
from mmrel_kit.card.stats import SplitStats, merge_stats
from mmrel_kit.files import (
    INDEX,
    PROJECT,
    SCHEMAS,
    InputError,
    describe_file,
    make_temporary_path,
    write_bytes,
    write_json_lines,
)
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.questions.table import PairCounts

CARD = "README.md"
MISSING = "missing.jsonl"


class BuildSummary(NamedTuple):
    """The contents of a finished release, for the report of the build.

    Attributes:
        pairs: counts of yes/no questions with a partner, by split and category.
        left_out: a sentence on the questions that were left out, or None.
        assumed: number of questions that became `test` because neither their records nor the file
            name a split, by annotation file.
        unparsed: number of open-ended questions that no grammar parses, by category.
        repeated: number of questions that were dropped because another file has them.
        passed_over: number of conversations about pictures that are not MMRel's.
    """

    stats: list[SplitStats]
    pairs: dict[tuple[str, str], PairCounts]
    left_out: str | None
    assumed: dict[str, int]
    unparsed: dict[str, int]
    repeated: int
    passed_over: int


def check_out(out: Path) -> None:
    """Check that replacing `out` deletes nothing but a release.

    Raises:
        InputError: `out` is a file, or has files that do not belong to a release.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: expected a folder or nothing, got a file; name another --out")
    existing = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        listed = {*mmrel.Release(out).files, INDEX}
    except (OSError, mmrel.ReleaseError):
        listed = set()
    foreign = sorted(existing - listed)
    if foreign:
        raise InputError(
            f"{out}: expected nothing or a release, got {foreign[0]!r} ({len(foreign)} files that "
            f"no {INDEX} lists); name another --out or empty it"
        )


def join_shards(
    plan: BuildPlan, work: WorkFolder, manifests: Sequence[ShardManifest]
) -> BuildSummary:
    """Join the shards of a release, write all other files, and move it into place."""
    release = work.release
    manifests = sorted(manifests, key=lambda manifest: manifest.name)
    stats = merge_stats(manifest.stats for manifest in manifests)
    files: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        files.update(manifest.files)
    _delete_leftovers(release, set(files))
    _join_records(work, manifests)
    left_out = plan.get_meta("left out")
    note = " ".join(filter(None, (plan.get_meta("note"), left_out))) or None
    _write_documents(plan, release, stats)
    if plan.get_meta("hub eval"):
        write_hub_eval(release)
    for path in sorted(release.rglob("*")):
        name = path.relative_to(release).as_posix()
        if path.is_file() and name not in files:
            files[name] = describe_file(path)
    _write_text(release / croissant.NAME, croissant.make_croissant(stats, files, note))
    files[croissant.NAME] = describe_file(release / croissant.NAME)
    _write_text(release / INDEX, make_index(files, note))
    _write_card(release, stats, note)
    summary = BuildSummary(
        stats=stats,
        pairs=plan.count_pairs(),
        left_out=left_out,
        assumed=plan.count_assumed(),
        unparsed=plan.count_unparsed(),
        repeated=plan.get_meta("repeated"),
        passed_over=plan.get_meta("passed over"),
    )
    _replace_folder(release, work.out)
    shutil.rmtree(work.root)
    return summary


def make_index(files: dict[str, dict[str, Any]], note: str | None) -> str:
    """Return the text of checksums.json: version, note, and sha256 and size of each file."""
    index = {
        "name": "mmrel",
        "version": mmrel.__version__,
        "note": note,
        "written_by": list_versions(),
        "files": dict(sorted(files.items())),
    }
    return _format_index(index)


def replace_file(release: Path, name: str, data: bytes) -> None:
    """Replace a file of a release, and its entry in checksums.json."""
    index = mmrel.parse_index((release / INDEX).read_bytes())
    write_bytes(release / name, data)
    index["files"][name] = describe_file(release / name)
    index["files"] = dict(sorted(index["files"].items()))
    write_bytes(release / INDEX, _format_index(index).encode())


def update_card(release: Path, blocks: Mapping[str, str]) -> None:
    """Replace some blocks in the card of a release, such as those of an audit, by name."""
    card = (release / CARD).read_text("utf-8")
    old = read_card(card)
    new = CardContent(old.front_matter, {**old.blocks, **blocks})
    replace_file(release, CARD, render_card(card, new, keep_project=True).encode())


def _format_index(index: dict[str, Any]) -> str:
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def _delete_leftovers(release: Path, keep: set[str]) -> None:
    """Delete what earlier builds left, with other input or interrupted while finishing."""
    for path in sorted(release.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(release).as_posix() not in keep:
            path.unlink()


def _join_records(work: WorkFolder, manifests: Sequence[ShardManifest]) -> None:
    """Append the records of each shard to the JSON lines of its split."""
    for manifest in manifests:
        stats = manifest.stats
        target = work.release / "data" / stats.domain / f"{stats.split}.jsonl"
        source = work.shards / f"{manifest.name}.jsonl"
        with open(target, "ab") as lines, open(source, "rb") as records:
            shutil.copyfileobj(records, lines)


def _write_documents(plan: BuildPlan, release: Path, stats: list[SplitStats]) -> None:
    """Write schema, licence, loader, the list of missing pictures and dataset_infos.json."""
    for name in (*SCHEMAS, "LICENSE"):
        _copy(PROJECT / name, release / name)
    _copy(Path(mmrel.__file__), release / "loader" / "mmrel.py")
    if plan.get_meta("missing"):
        write_json_lines(
            release / MISSING, (missing._asdict() for missing in plan.missing_pictures())
        )
    _write_text(release / "dataset_infos.json", make_dataset_infos(stats))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", newline="\n")


def _write_card(release: Path, stats: list[SplitStats], note: str | None) -> None:
    """Write the card, with an example and an audit of the release, whose index must exist."""
    record, picture = _find_example(mmrel.Release(release))
    replace_file(release, EXAMPLE, make_example_picture(picture, record["image_id"]))
    audited = render_blocks(audit_release(release, thorough=False))
    blocks = {**audited, "row": make_row(record)}
    content = make_card_content(stats, note, blocks, find_splits(release))
    card = render_card(TEMPLATE.read_text("utf-8"), content)
    replace_file(release, CARD, card.encode())


def _find_example(release: mmrel.Release) -> tuple[dict[str, Any], bytes]:
    """Return a question, if possible one answered yes, and the bytes of its picture."""
    archives = [name for names in release.archives("all").values() for name in names]
    # Prefer MMRel's own pictures: those of the other domains have their own owners and terms.
    archives.sort(key=lambda name: mmrel.DOMAINS.index(name.split("/")[1]), reverse=True)
    records, picture = next(read_archives(release, archives))
    for record in records:
        if record["answer"] == "yes":
            return record, picture
    return records[0], picture


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _replace_folder(new: Path, out: Path) -> None:
    """Move the finished folder into place; delete an older release only after that."""
    if not out.exists():
        os.rename(new, out)
        return
    old = make_temporary_path(out)
    os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)
