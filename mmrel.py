# SPDX-License-Identifier: Apache-2.0
"""MMRel: relations between objects in images, as a `datasets` builder over the archives of a release.

The file stands alone: it needs `datasets` (with what that brings) and `jsonschema`, and may be copied out of its
repository. `mmrel.load` is the way in on every version of `datasets`; `python mmrel.py real` shows what it loads.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import json
import os
import re
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import datasets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

__version__ = "1.0.0"

DOMAINS = ("real", "sdxl", "dalle")
CONFIGS = ("all", *DOMAINS)
SPLITS = ("train", "test", "adversarial")
CATEGORIES = ("spatial", "action", "comparative")
TASKS = ("discriminative", "generative")
# Columns that a record gives; beside them stands one Image, `image`. All are strings, null where the record says so.
COLUMNS = (
    "question_id", "image_id", "domain", "category", "task", "subject", "relation", "object",
    "question", "instruction", "answer", "style", "pair_id", "source",
)  # fmt: skip
MAX_RECORDS_BYTES = 4 << 20  # of one picture's .json member; a record is about 500 bytes and a picture has about 3
MAX_PICTURE_BYTES = 256 << 20
MAX_INDEX_BYTES = 256 << 20  # of checksums.json
DESCRIPTION = (
    "MMRel asks how two objects in a picture relate: spatial, action and comparative relations, in real, SDXL and "
    "DALL-E pictures, as yes/no and open-ended questions, with an adversarial subset of unusual relations."
)
HOMEPAGE = "https://niejiahao1998.github.io/MMRel/"
LICENSE = "cc-by-4.0"
CITATION = """\
@article{nie2024mmrel,
  title   = {MMRel: A Relation Understanding Benchmark in the MLLM Era},
  author  = {Nie, Jiahao and Zhang, Gongjie and An, Wenbin and Tan, Yap-Peng and Kot, Alex C. and Lu, Shijian},
  journal = {arXiv preprint arXiv:2406.09121},
  year    = {2024}
}"""


class ReleaseError(ValueError):
    """A release that is missing, incomplete or broken; the message says where and what to do."""


def _choice(what: str, values: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...] | None:
    if values is None:
        return None
    chosen = (values,) if isinstance(values, str) else tuple(values)
    if not chosen or not set(chosen) <= set(known):
        raise ValueError(f"expected {what} among {', '.join(known)}, got {values!r}")
    return tuple(value for value in known if value in chosen)


@dataclasses.dataclass
class MMRelConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One domain, or all of them.

    Attributes:
        categories: relation categories to keep; null keeps all.
        tasks: tasks to keep; null keeps both.
    """

    categories: Sequence[str] | None = None
    tasks: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.categories = _choice("categories", self.categories, CATEGORIES)
        self.tasks = _choice("tasks", self.tasks, TASKS)


class MMRel(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Streams a release's archives: a row per question, the picture's bytes as they came.

    `base_path` is the release, a folder or `hf://datasets/NS/NAME@REVISION`; for a folder, its parent is tried too.
    It defaults to the folder of this file.
    """

    VERSION = datasets.Version(__version__)
    BUILDER_CONFIG_CLASS = MMRelConfig
    BUILDER_CONFIGS = [MMRelConfig(name=name, version=datasets.Version(__version__)) for name in CONFIGS]
    DEFAULT_CONFIG_NAME = "all"
    DEFAULT_WRITER_BATCH_SIZE = 100  # rows held while the Arrow cache is written; a DALL-E picture is 1.5 MB

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.release = Release(kwargs.get("base_path") or str(Path(__file__).resolve().parent))
        # `datasets` keys its cache by the script; the rows come from the release, so it has to be part of the key.
        kwargs["hash"] = hashlib.sha256(f"{kwargs.get('hash')} {self.release.sha256}".encode()).hexdigest()
        if kwargs.get("config_name") not in (None, *CONFIGS):
            raise ValueError(f"expected a config among {', '.join(CONFIGS)}, got {kwargs['config_name']!r}")
        super().__init__(*args, **kwargs)

    @classmethod
    def get_all_exported_dataset_infos(cls) -> dict[str, datasets.DatasetInfo]:
        """Nothing: the card beside this file may describe another release than the one that is loaded."""
        return {}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=DESCRIPTION, features=make_features(), homepage=HOMEPAGE, license=LICENSE, citation=CITATION
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        shards = self.release.archives(self.config.name)
        wanted = [name for names in shards.values() for name in names]
        paths = dict(zip(wanted, dl_manager.download([self.release.path(name) for name in wanted]), strict=True))
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"archives": [(name, paths[name]) for name in names]})
            for split, names in shards.items()
        ]

    def _generate_examples(self, archives: list[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        validate = make_validator(self.release.schema())
        for name, path in archives:
            with open_file(path) as file:
                for records, picture in read_archive(file, name, self.release.files[name]["size"], self._keeps):
                    for record in records:
                        _check_record(record, name, validate)
                        row: dict[str, Any] = {column: record[column] for column in COLUMNS}
                        row["image"] = {"path": record["image_id"], "bytes": picture}
                        yield record["question_id"], row

    def _keeps(self, record: dict[str, Any]) -> bool:
        config = self.config
        return (not config.categories or record.get("category") in config.categories) and (
            not config.tasks or record.get("task") in config.tasks
        )


class Release:
    """A release on disk or on the Hub: where its files are, and what checksums.json says of them.

    Attributes:
        root: folder or `hf://` URL.
        sha256: hash of checksums.json; it names the content of the release.
        version: version of the package that built it.
        note: what the release says of itself beyond that, or null.
        files: `{path: {"sha256": hex, "size": bytes}}`.
    """

    def __init__(self, root: str) -> None:
        self.root = _find_root(str(root))
        with open_file(self.path("checksums.json")) as file:
            text = file.read(MAX_INDEX_BYTES)
        self.sha256 = hashlib.sha256(text).hexdigest()
        try:
            index = json.loads(text)
            self.version: str = index["version"]
            self.note: str | None = index["note"]
            self.files: dict[str, dict[str, Any]] = index["files"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ReleaseError(
                f"{self.path('checksums.json')}: expected a release's index, got {type(error).__name__}: {error}; "
                "fetch or build the release again"
            ) from None

    def path(self, name: str) -> str:
        """Where a file of the release is, from its path in the release."""
        return f"{self.root}/{name}" if "://" in self.root else os.path.join(self.root, *name.split("/"))

    def schema(self) -> dict[str, Any]:
        """The schema that the release's records follow."""
        with open_file(self.path("schema/record.schema.json")) as file:
            schema: dict[str, Any] = json.loads(file.read(MAX_INDEX_BYTES))
        return schema

    def archives(self, config: str) -> dict[str, list[str]]:
        """The archives of a config by split, in order; raises `ReleaseError` where the release has none."""
        found: dict[tuple[str, str], list[str]] = {}
        for name in sorted(self.files):
            if match := re.fullmatch(r"data/(\w+)/(\w+)-[0-9]{5}\.tar", name):
                found.setdefault((match[1], match[2]), []).append(name)
        wanted = {domain for domain, _ in found if config in ("all", domain)}
        shards = {s: [n for (d, t), names in found.items() if t == s and d in wanted for n in names] for s in SPLITS}
        shards = {split: names for split, names in shards.items() if names}
        if not shards:
            present = ", ".join(sorted({domain for domain, _ in found})) or "none"
            raise ReleaseError(f"{self.root} has no archives for {config!r}; domains present: {present}")
        return shards


def load(
    name: str = "all",
    split: str | None = None,
    streaming: bool = False,
    root: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    revision: str | None = None,
    categories: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    cache_dir: str | None = None,
) -> Any:
    """Load MMRel on any version of `datasets` from 3.6 on, streaming from the archives of a release.

    Args:
        name: `all`, or a domain: `real`, `sdxl`, `dalle`.
        split: `train`, `test` or `adversarial`; null gives all that exist, by name.
        streaming: read rows as they are asked for instead of writing them to the cache first.
        root: folder of the release; default: the data beside this file.
        repo_id: a release on the Hub (`NS/MMRel`) instead of a folder.
        revision: branch, tag or commit of `repo_id`; default: its main branch as it stands now.
        categories: keep only these of `spatial`, `action`, `comparative`.
        tasks: keep only these of `discriminative`, `generative`.
        cache_dir: where `datasets` keeps its cache.

    Returns:
        A `Dataset` or `IterableDataset`; without `split` a dict of them.

    Raises:
        ReleaseError: there is no release, it lacks what was asked for, or it is broken.
        ValueError: an unknown config, split, category or task, or arguments that contradict each other.
    """
    builder = _make_builder(name, root, repo_id, revision, categories, tasks, cache_dir)
    present = builder.release.archives(name)
    if split is not None and re.split(r"\W", split)[0] not in present:
        raise ReleaseError(f"{builder.release.root} has no split {split!r} of {name!r}; present: {', '.join(present)}")
    if streaming:
        return builder.as_streaming_dataset(split=split)
    try:
        builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, ReleaseError):
            raise error.__cause__ from None
        raise
    return builder.as_dataset(split=split)


def make_features() -> datasets.Features:
    """The columns of every config and split: one `Image`, then the record's fields as strings."""
    fields: dict[str, Any] = {"image": datasets.Image()}
    fields.update((column, datasets.Value("string")) for column in COLUMNS)
    return datasets.Features(fields)


def make_validator(schema: dict[str, Any]) -> Callable[[Any], str | None]:
    """A function that says what is wrong with a record (`field: message`), or null.

    jsonschema-rs is used where it is installed (a hundred times as fast, same verdicts), else jsonschema.
    """
    try:
        jsonschema: Any = importlib.import_module("jsonschema_rs")
        at = "instance_path"
    except ImportError:
        jsonschema = importlib.import_module("jsonschema")
        at = "absolute_path"
    validator = jsonschema.Draft202012Validator(schema)

    def validate(record: Any) -> str | None:
        if validator.is_valid(record):
            return None
        errors = ("/".join(map(str, getattr(e, at))) + f": {e.message[:300]}" for e in validator.iter_errors(record))
        return "field " + min(errors)

    return validate


def read_archive(
    file: BinaryIO, name: str, size: int, keep: Callable[[dict[str, Any]], bool] = lambda record: True
) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """Yield the records and the bytes of each picture of a WebDataset shard, in constant memory.

    Args:
        file: the archive; it is read once, forwards.
        name: what errors call it.
        size: bytes that the archive has when it is whole.
        keep: which records are wanted; a picture without any is passed over unread.

    Raises:
        ReleaseError: the archive is cut off or is not a series of records and their picture.
    """
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for header in archive:
                records = _read_records(archive, header, name)
                picture = archive.next()
                where = f"{name}:{picture.name if picture else header.name}"
                if picture is None or picture.name != records[0].get("image_id"):
                    raise ReleaseError(f"{where}: expected the picture {records[0].get('image_id')!r} of {header.name}")
                if kept := [record for record in records if keep(record)]:
                    yield kept, _read_member(archive, picture, name, MAX_PICTURE_BYTES)
                archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every member it has seen
            end = archive.offset
    except (tarfile.TarError, EOFError) as error:
        raise ReleaseError(f"{name}: not a whole tar archive ({error}); fetch the release again") from None
    # tarfile takes a damaged header for the end; a whole archive ends in two blocks of zeros, padded to a record.
    whole = -(-(end + tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    if whole != size:
        raise ReleaseError(f"{name}: expected {size} bytes, the archive ends at {end}; fetch the release again")


def open_file(path: str) -> BinaryIO:
    """Open a file of a release for reading, local or at a URL that fsspec knows."""
    if "://" not in path:
        return open(path, "rb")
    import fsspec

    opened: BinaryIO = fsspec.open(path, "rb").open()
    return opened


def _read_records(archive: tarfile.TarFile, header: tarfile.TarInfo, name: str) -> list[dict[str, Any]]:
    where = f"{name}:{header.name}"
    try:
        records = json.loads(_read_member(archive, header, name, MAX_RECORDS_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ReleaseError):
            raise
        raise ReleaseError(f"{where}: expected a JSON array of records before each picture, got {error}") from None
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise ReleaseError(f"{where}: expected a JSON array of records, got {str(records)[:80]}")
    return records


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, limit: int) -> bytes:
    if not member.isreg() or member.size > limit:
        raise ReleaseError(
            f"{name}:{member.name}: expected a plain file of at most {limit} bytes, "
            f"got {member.size} bytes of type {member.type!r}"
        )
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise ReleaseError(f"{name}:{member.name}: cut off after {len(data)} of {member.size} bytes")
    return data


def _check_record(record: dict[str, Any], name: str, validate: Callable[[Any], str | None]) -> None:
    problem = validate(record)
    if problem is None and record["domain"] != name.split("/")[1]:
        problem = f"field domain: expected {name.split('/')[1]!r}, got {record['domain']!r}"
    if problem:
        member = f"{name}:{record.get('image_id')}"
        raise ReleaseError(f"{member}: question {record.get('question_id')!r}, {problem}")


def _find_root(base_path: str) -> str:
    if "://" in base_path:
        return base_path.rstrip("/")
    base = Path(base_path)
    for folder in (base, base.absolute().parent):
        if (folder / "checksums.json").is_file() and (folder / "data").is_dir():
            return str(folder)
    raise ReleaseError(
        f"expected a release (checksums.json and data/) in {base} or its parent and found none; "
        "pass root=, the folder of a release, or repo_id=, its repository on the Hub"
    )


def _make_builder(
    name: str,
    root: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    revision: str | None = None,
    categories: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    cache_dir: str | None = None,
) -> MMRel:
    if repo_id is not None and root is not None:
        raise ValueError("expected root= or repo_id=, got both; leave one out")
    if revision is not None and repo_id is None:
        raise ValueError("revision= names a commit of repo_id=, which was not given")
    base_path = str(root) if root is not None else None
    if repo_id is not None:
        from huggingface_hub import HfApi

        # One commit for every file that is read, whatever is pushed meanwhile.
        base_path = f"hf://datasets/{repo_id}@{HfApi().dataset_info(repo_id, revision=revision).sha}"
    filters = {key: value for key, value in (("categories", categories), ("tasks", tasks)) if value is not None}
    return MMRel(config_name=name, dataset_name="mmrel", base_path=base_path, cache_dir=cache_dir, **filters)


def _count_rows(dataset: Any) -> Counter[str]:
    table = dataset.remove_columns("image")
    counts = Counter(questions=len(table), pictures=len(set(table["image_id"])))
    for column in ("category", "task", "answer"):
        counts.update(table[column])
    return counts


def _show(name: str, loaded: dict[str, Any], release: Release) -> None:
    print(f"MMRel {release.version}, config {name}, from {release.root}")
    print(f"checksums.json sha256 {release.sha256}")
    print(f"{release.note}\n" if release.note else "")
    heads = ("pictures", "questions", *CATEGORIES, *TASKS, "yes", "no")
    print(f"{'split':<12}" + "".join(f"{head:>{max(10, len(head) + 2)}}" for head in heads))
    for split, dataset in loaded.items():
        counts = _count_rows(dataset)
        print(f"{split:<12}" + "".join(f"{counts[head]:>{max(10, len(head) + 2)}}" for head in heads))
    first = next(iter(loaded.values())).select(range(3))
    for row in first:
        size = "{} x {}".format(*row["image"].size)
        print(f"\n{row['image_id']} ({size})\n  {row['question']} {row['instruction'] or ''}\n  -> {row['answer']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Show what a config holds: counts, three questions with their answers, and where they came from."""
    parser = argparse.ArgumentParser(prog="mmrel.py", description=main.__doc__)
    parser.add_argument("config", nargs="?", default="all", choices=CONFIGS)
    parser.add_argument("--root", help="folder of a release; default: the data beside this file")
    parser.add_argument("--repo-id", help="a release on the Hub, for example NS/MMRel")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    args = parser.parse_args(argv)
    try:
        builder = _make_builder(args.config, args.root, args.repo_id, args.revision)
        loaded = load(args.config, root=args.root, repo_id=args.repo_id, revision=args.revision)
        _show(args.config, loaded, builder.release)
    except (OSError, ValueError) as error:
        print(f"mmrel.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
