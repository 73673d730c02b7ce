# SPDX-License-Identifier: Apache-2.0
"""Write the train split of a release for trainers, checked for leaks into the held-out splits.

    mmrel export --root RELEASE --format trl --out FOLDER

Formats: `trl` is Parquet with the flat columns prompt, completion, image (TRL, see `mmrel
finetune`; any version of `datasets`); `messages` is JSON lines with picture paths (ms-swift;
LLaMA-Factory by its dataset_info.json); `llava` is LLaVA's JSON array. `load_dataset("FOLDER")`
opens the first two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.build.tables import make_schema
from mmrel_kit.check.release import check_sample, is_source
from mmrel_kit.check.stamps import check_unless_stored
from mmrel_kit.files import InputError, fill_folder, make_json
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.leaks import find_leaks
from mmrel_kit.recipes.questions import matches_task, read_pictures

# Rows of a row group. A reader loads a whole row group, each row with its own copy of the picture.
GROUP_ROWS = 100
# LLaMA-Factory's description of a file of messages; ms-swift needs none.
LLAMA_FACTORY = {
    "mmrel": {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
}


class TrainingRow(NamedTuple):
    """One question to train on."""

    question_id: str
    image_id: str
    prompt: str
    completion: str


class TrainingPicture(NamedTuple):
    """A picture and the exported questions about it."""

    image_id: str
    data: bytes
    rows: list[TrainingRow]


def write_trl(folder: Path, pictures: Iterable[TrainingPicture]) -> None:
    """Write `train-00000-of-00001.parquet`; a picture is stored once in each row group."""
    schema = make_schema(TrainingRow._fields)
    path = folder / "train-00000-of-00001.parquet"
    with pq.ParquetWriter(
        path, schema, use_dictionary=["image.bytes"], dictionary_pagesize_limit=1 << 30
    ) as writer:
        rows: list[dict[str, Any]] = []
        for picture in pictures:
            image = {"bytes": picture.data, "path": picture.image_id}
            rows += [{"image": image, **row._asdict()} for row in picture.rows]
            if len(rows) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))


def write_messages(folder: Path, pictures: Iterable[TrainingPicture]) -> None:
    """Write `images/` and `train.jsonl`, one conversation per line; `<image>` is the picture."""
    with open(folder / "train.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for picture in pictures:
            for row in picture.rows:
                messages = [
                    {"role": "user", "content": f"<image>{row.prompt}"},
                    {"role": "assistant", "content": row.completion},
                ]
                value = {"messages": messages, "images": [f"images/{picture.image_id}"]}
                file.write(make_json(value) + "\n")
            _write_picture(folder, picture)
    (folder / "dataset_info.json").write_text(json.dumps(LLAMA_FACTORY, indent=2) + "\n", "utf-8")


def write_llava(folder: Path, pictures: Iterable[TrainingPicture]) -> None:
    """Write `train.json`, one array, and `images/`, which is LLaVA's image folder."""
    with open(folder / "train.json", "w", encoding="utf-8", newline="\n") as file:
        separator = "[\n"
        for picture in pictures:
            for row in picture.rows:
                conversation = [
                    {"from": "human", "value": f"<image>\n{row.prompt}"},
                    {"from": "gpt", "value": row.completion},
                ]
                value = {"id": row.question_id, "image": picture.image_id}
                file.write(separator + make_json({**value, "conversations": conversation}))
                separator = ",\n"
            _write_picture(folder, picture)
        file.write("\n]\n")


# Format -> its writer, and the pattern of its data files.
FORMATS = {
    "trl": (write_trl, "train-*.parquet"),
    "messages": (write_messages, "train.jsonl"),
    "llava": (write_llava, "train.json"),
}


class ExportRules(NamedTuple):
    """Which questions are exported.

    Attributes:
        config: a domain, or all.
        task: discriminative, generative or both.
        drop_leaks: leave out leaking questions instead of raising an error.
        allow_triplets: keep questions that share only a triplet with the held-out splits.
    """

    config: str = "all"
    task: str = mmrel.TASKS[0]
    drop_leaks: bool = False
    allow_triplets: bool = False


def export(
    root: str,
    out: Path,
    form: str,
    rules: ExportRules,
    advance: Callable[[int], object] = lambda _: None,
    show: Callable[[str], object] = lambda line: None,
) -> str:
    """Check a release, find leaks, and write the export; after an error `out` is not created.

    `out` must not exist, or be an empty folder; `advance` is called with the bytes of each picture,
    `show` as in `check_unless_stored`.

    Returns:
        A summary in one sentence.

    Raises:
        InputError: the release has problems or leaks, there is nothing to export, or `out` is not
            empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: expected nothing or an empty folder there; name another --out")
    release = _open_checked(root, show)
    dropped = _find_dropped(release, rules)
    counts = {"pictures": 0, "questions": 0}
    write, pattern = FORMATS[form]
    with fill_folder(out) as work:
        write(work, _count(_read(release, rules, dropped), counts, advance))
        if not counts["questions"]:
            wanted = f"expected train questions of {rules.config!r}, {rules.task}"
            raise InputError(f"{root}: {wanted}, found none to export")
        exported = f"{counts['questions']} questions about {counts['pictures']} pictures"
        summary = f"{exported}, {len(dropped)} left out as leaks"
        (work / "README.md").write_text(_make_card(release, pattern, summary), "utf-8")
    return f"{summary}, written to {out}"


def _open_checked(root: str, show: Callable[[str], object]) -> mmrel.Release:
    if "://" in root:
        reason = "a release is checked before it is exported"
        raise InputError(f"{root}: expected a folder, since {reason}; download it")
    release = mmrel.Release(root)
    folder = Path(release.root)
    problems = check_sample(folder) if is_source(folder) else check_unless_stored(folder, show)
    errors = [problem for problem in problems if not problem.is_warning]
    if errors:
        raise InputError(
            f"{root}: expected a release that passes 'mmrel check', it has {len(errors)} problems, "
            f"the first: {errors[0]}"
        )
    return release


def _find_dropped(release: mmrel.Release, rules: ExportRules) -> set[str]:
    """Return the ids of the questions to leave out.

    Raises:
        InputError: there are some, and --drop-leaks is not set.
    """
    leaks = find_leaks(release)
    by_triplet = {} if rules.allow_triplets else leaks.by_triplet
    examples = [f"{name} (picture of {where})" for name, where in leaks.by_picture.items()]
    examples += [f"{name} (triplet of {where})" for name, where in by_triplet.items()]
    if examples and not rules.drop_leaks:
        raise InputError(
            f"{release.root}: expected a train split without pictures and triplets of test and "
            f"adversarial; {len(leaks.by_picture)} questions share a picture with them, "
            f"{len(by_triplet)} a triplet, such as {examples[0]}; leave them out with "
            "--drop-leaks, or keep triplets with --allow-triplets"
        )
    return {*leaks.by_picture, *by_triplet}


def _read(
    release: mmrel.Release, rules: ExportRules, dropped: set[str]
) -> Iterable[TrainingPicture]:
    for records, data in read_pictures(release, rules.config, "train"):
        image_id = records[0]["image_id"]
        rows = []
        for record in records:
            question_id = record["question_id"]
            if matches_task(record, rules.task) and question_id not in dropped:
                prompt = make_prompt(record)
                rows.append(TrainingRow(question_id, image_id, prompt, record["answer"]))
        if rows:
            yield TrainingPicture(image_id, data, rows)


def _count(
    pictures: Iterable[TrainingPicture], counts: dict[str, int], advance: Callable[[int], object]
) -> Iterable[TrainingPicture]:
    """Yield the pictures, and count them as they are written."""
    for picture in pictures:
        counts["pictures"] += 1
        counts["questions"] += len(picture.rows)
        yield picture
        advance(len(picture.data))


def _write_picture(folder: Path, picture: TrainingPicture) -> None:
    path = folder / "images" / picture.image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.data)


def _make_card(release: mmrel.Release, pattern: str, summary: str) -> str:
    """Return a card that names the release, with which `load_dataset` finds the data files."""
    config = f"- config_name: default\n  data_files:\n  - split: train\n    path: {pattern}\n"
    origin = f"MMRel {release.version}, checksums.json sha256 {release.sha256}"
    description = f"Train split of {origin}: {summary}.\n"
    return f"---\nconfigs:\n{config}---\n{release.note or ''}\n\n{description}"
