# SPDX-License-Identifier: Apache-2.0
"""Write the train split of a release as trainers read it, checked for leaks into held-out splits.

    mmrel export --root RELEASE --format trl --out FOLDER

Formats: `trl` is Parquet with the flat columns prompt, completion, image (TRL, see `mmrel
finetune`; any version of `datasets`); `messages` is JSON lines with picture paths (ms-swift;
LLaMA-Factory by its dataset_info.json); `llava` is LLaVA's JSON array. `load_dataset("FOLDER")`
opens the first two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.build.tables import make_schema
from mmrel_kit.check.release import check_release, check_sample, is_source
from mmrel_kit.files import InputError, fill_folder, make_json
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.leaks import find_leaks
from mmrel_kit.recipes.questions import is_of_task, read_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GROUP_ROWS = (
    100  # of a row group: what a reader holds at once, each row with its own copy of the picture
)
# What LLaMA-Factory wants to know of a file of messages; ms-swift needs nothing.
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
    """A picture and the questions about it that are exported."""

    image_id: str
    data: bytes
    samples: list[TrainingRow]


def write_trl(folder: Path, pictures: Iterable[TrainingPicture]) -> None:
    """Write `train-00000-of-00001.parquet`; a picture is stored once in each row group."""
    schema = make_schema(TrainingRow._fields)
    path = folder / "train-00000-of-00001.parquet"
    with pq.ParquetWriter(
        path, schema, use_dictionary=["image.bytes"], dictionary_pagesize_limit=1 << 30
    ) as writer:
        rows: list[dict[str, Any]] = []
        for shown in pictures:
            stored = {"bytes": shown.data, "path": shown.image_id}
            rows += [{"image": stored, **sample._asdict()} for sample in shown.samples]
            if len(rows) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))


def write_messages(folder: Path, pictures: Iterable[TrainingPicture]) -> None:
    """Write `train.jsonl` and `images/`: a conversation a line, `<image>` where the picture goes."""
    with open(folder / "train.jsonl", "w", encoding="utf-8", newline="\n") as lines:
        for shown in pictures:
            for sample in shown.samples:
                asked = {"role": "user", "content": f"<image>{sample.prompt}"}
                messages = [asked, {"role": "assistant", "content": sample.completion}]
                lines.write(
                    make_json({"messages": messages, "images": [f"images/{shown.image_id}"]}) + "\n"
                )
            _write_picture(folder, shown)
    (folder / "dataset_info.json").write_text(json.dumps(LLAMA_FACTORY, indent=2) + "\n", "utf-8")


def write_llava(folder: Path, pictures: Iterable[TrainingPicture]) -> None:
    """Write `train.json`, one array, and `images/`, the image folder that its paths are under."""
    with open(folder / "train.json", "w", encoding="utf-8", newline="\n") as file:
        between = "[\n"
        for shown in pictures:
            for sample in shown.samples:
                turns = [("human", f"<image>\n{sample.prompt}"), ("gpt", sample.completion)]
                conversation = [{"from": who, "value": text} for who, text in turns]
                value = {
                    "id": sample.question_id,
                    "image": shown.image_id,
                    "conversations": conversation,
                }
                file.write(between + make_json(value))
                between = ",\n"
            _write_picture(folder, shown)
        file.write("\n]\n")


FORMATS = {
    "trl": (write_trl, "train-*.parquet"),
    "messages": (write_messages, "train.jsonl"),
    "llava": (write_llava, "train.json"),
}


class ExportRules(NamedTuple):
    """What is exported, and what is done about leaks.

    Attributes:
        config: a domain, or all.
        task: discriminative, generative or both.
        drop_leaks: leave leaks out; otherwise they are an error.
        allow_triplets: keep questions whose triplet is held out with another picture.
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
) -> str:
    """Check a release, find leaks, and write the export; `out` is there whole or not at all.

    Args:
        root: folder of the release.
        out: the folder to write; nothing or an empty folder is there.
        form: of FORMATS.
        rules: what is exported.
        advance: is called with the bytes of each picture that was written.

    Returns:
        What was written, in a sentence.

    Raises:
        InputError: the release has problems or leaks, nothing is left to export, or `out` holds
            something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: expected nothing or an empty folder there; name another --out")
    release = _open_checked(root)
    dropped = _find_dropped(release, rules)
    counts = {"pictures": 0, "questions": 0}
    write, pattern = FORMATS[form]
    with fill_folder(out) as work:
        write(work, _count(_read(release, rules, dropped), counts, advance))
        if not counts["questions"]:
            wanted = f"expected train questions of {rules.config!r}, {rules.task}"
            raise InputError(f"{root}: {wanted}, found none to export")
        summary = f"{counts['questions']} questions about {counts['pictures']} pictures"
        summary += f", {len(dropped)} left out as leaks"
        (work / "README.md").write_text(_make_card(release, pattern, summary), "utf-8")
    return f"{summary}, written to {out}"


def _open_checked(root: str) -> mmrel.Release:
    if "://" in root:
        raise InputError(
            f"{root}: expected a folder, since a release is checked before it is exported; download it"
        )
    release = mmrel.Release(root)
    folder = Path(release.root)
    found = check_sample(folder) if is_source(folder) else check_release(folder)
    problems = [problem for problem in found if not problem.is_warning]
    if problems:
        raise InputError(
            f"{root}: expected a release that passes 'mmrel check', it has {len(problems)} problems, "
            f"the first: {problems[0]}"
        )
    return release


def _find_dropped(release: mmrel.Release, rules: ExportRules) -> set[str]:
    """Question ids to leave out; raises `InputError` where there are some and nothing says what to do with them."""
    leaks = find_leaks(release)
    kinds = {
        "picture": leaks.by_picture,
        "triplet": {} if rules.allow_triplets else leaks.by_triplet,
    }
    found = {
        question: f"{question} ({kind} of {where})"
        for kind in kinds
        for question, where in kinds[kind].items()
    }
    if found and not rules.drop_leaks:
        raise InputError(
            f"{release.root}: expected a train split that gives nothing of test and adversarial away; "
            f"{len(kinds['picture'])} questions share a picture with them, {len(kinds['triplet'])} a triplet, such as "
            f"{next(iter(found.values()))}; leave them out with --drop-leaks, or keep triplets with --allow-triplets"
        )
    return set(found)


def _read(
    release: mmrel.Release, rules: ExportRules, dropped: set[str]
) -> Iterable[TrainingPicture]:
    for records, data in read_pictures(release, rules.config, "train"):
        samples = [
            TrainingRow(
                record["question_id"], record["image_id"], make_prompt(record), record["answer"]
            )
            for record in records
            if is_of_task(record, rules.task) and record["question_id"] not in dropped
        ]
        if samples:
            yield TrainingPicture(records[0]["image_id"], data, samples)


def _count(
    pictures: Iterable[TrainingPicture],
    counts: dict[str, int],
    advance: Callable[[int], object],
) -> Iterable[TrainingPicture]:
    for shown in pictures:
        counts["pictures"] += 1
        counts["questions"] += len(shown.samples)
        yield shown
        advance(len(shown.data))


def _write_picture(folder: Path, shown: TrainingPicture) -> None:
    path = folder / "images" / shown.image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(shown.data)


def _make_card(release: mmrel.Release, pattern: str, summary: str) -> str:
    """A card that says where the export is from, and by which `load_dataset` finds the file."""
    split = f"- config_name: default\n  data_files:\n  - split: train\n    path: {pattern}\n"
    made = f"Train split of MMRel {release.version}, checksums.json sha256 {release.sha256}: {summary}.\n"
    return f"---\nconfigs:\n{split}---\n{release.note or ''}\n\n{made}"
