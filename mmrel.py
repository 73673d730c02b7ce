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

HERE = str(Path(__file__).resolve().parent)
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
MAX_PICTURE_BYTES = MAX_INDEX_BYTES = 256 << 20
DESCRIPTION = (
    "MMRel asks how two objects in a picture relate: spatial, action and comparative relations, in real, SDXL and "
    "DALL-E pictures, as yes/no and open-ended questions, with an adversarial subset of unusual relations."
)
HOMEPAGE = "https://niejiahao1998.github.io/MMRel/"
LICENSE = "cc-by-4.0"
CITATION = """\
@article{nie2024mmrel,
  title = {MMRel: Benchmarking Relation Understanding in Multi-Modal Large Language Models},
  author = {Nie, Jiahao and Zhang, Gongjie and An, Wenbin and Tan, Yap-Peng and Kot, Alex C. and Lu, Shijian},
  journal = {arXiv preprint arXiv:2406.09121}, year = {2024}}"""


class ReleaseError(ValueError):
    """A release that is missing, incomplete or broken; the message says where and what to do."""


@dataclasses.dataclass
class MMRelConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One domain, or all of them.

    Attributes:
        categories: relation categories to keep; null keeps all.
        tasks: tasks to keep; null keeps both.
    """

    categories: Sequence[str] | None = None
    tasks: Sequence[str] | None = None


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
        self.release = Release(kwargs.get("base_path") or HERE)
        # `datasets` keys its cache by the script; the rows come from the release, so it has to be part of the key.
        kwargs["hash"] = hashlib.sha256(f"{kwargs.get('hash')} {self.release.sha256}".encode()).hexdigest()
        if kwargs.get("config_name") not in (None, *CONFIGS):
            raise ValueError(f"expected a config among {', '.join(CONFIGS)}, got {kwargs['config_name']!r}")
        for filter_, known in (("categories", CATEGORIES), ("tasks", TASKS)):
            if kwargs.get(filter_) is not None:
                kwargs[filter_] = _choice(filter_, kwargs[filter_], known)
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
        chosen = ((self.config.categories, "category"), (self.config.tasks, "task"))
        return all(not values or record.get(field) in values for values, field in chosen)


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
            self.files: dict[str, dict[str, Any]] = {name: {**file} for name, file in index["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            where = self.path("checksums.json")
            raise ReleaseError(f"{where}: expected the index of a release, got {error!r}; fetch it again") from None

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
        wanted = {key: names for key, names in found.items() if config in ("all", key[0])}
        shards = {split: [n for key, names in wanted.items() if key[1] == split for n in names] for split in SPLITS}
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
    filters = {key: value for key, value in (("categories", categories), ("tasks", tasks)) if value is not None}
    base_path = _base_path(root, repo_id, revision)
    builder = MMRel(config_name=name, dataset_name="mmrel", base_path=base_path, cache_dir=cache_dir, **filters)
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
    return datasets.Features({"image": datasets.Image(), **{column: datasets.Value("string") for column in COLUMNS}})


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
                if picture is None or any(record.get("image_id") != picture.name for record in records):
                    expected, got = records[0].get("image_id"), picture.name if picture else "the end"
                    raise ReleaseError(f"{name}:{header.name}: expected the picture {expected!r} after it, got {got!r}")
                if kept := [record for record in records if keep(record)]:
                    yield kept, _read_member(archive, picture, name, MAX_PICTURE_BYTES)
                archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every member it has seen
            end = archive.offset
    except (tarfile.TarError, EOFError) as error:
        raise ReleaseError(f"{name}: not a whole tar archive ({error}); fetch the release again") from None
    # tarfile takes a damaged header for the end; a whole archive ends in two blocks of zeros, padded to a record.
    whole = -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    if whole != size:
        raise ReleaseError(f"{name}: expected {size} bytes, the archive ends at {end}; fetch the release again")


def open_file(path: str) -> BinaryIO:
    """Open a file of a release for reading, local or at a URL that fsspec knows."""
    if "://" not in path:
        return open(path, "rb")
    import fsspec

    return fsspec.open(path, "rb").open()  # type: ignore[no-any-return]


def _read_records(archive: tarfile.TarFile, header: tarfile.TarInfo, name: str) -> list[dict[str, Any]]:
    data = _read_member(archive, header, name, MAX_RECORDS_BYTES)
    try:
        records = json.loads(data)
    except (ValueError, RecursionError):
        records = None
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        got = ascii(data[:60])
        raise ReleaseError(f"{name}:{header.name}: expected a JSON array of records before each picture, got {got}")
    return records


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, limit: int) -> bytes:
    if not member.isreg() or member.size > limit:
        raise ReleaseError(
            f"{name}:{member.name}: expected a plain file of at most {limit} bytes, "
            f"got {member.size} bytes of type {member.type!r}"
        )
    data = archive.extractfile(member).read()  # type: ignore[union-attr]
    if len(data) != member.size:
        raise ReleaseError(f"{name}:{member.name}: cut off after {len(data)} of {member.size} bytes")
    return data


def _check_record(record: dict[str, Any], name: str, validate: Callable[[Any], str | None]) -> None:
    problem, domain = validate(record), name.split("/")[1]
    if problem or record["domain"] != domain:
        problem = problem or f"field domain: expected {domain!r}, got {record['domain']!r}"
        raise ReleaseError(f"{name}:{record.get('image_id')}: question {record.get('question_id')!r}, {problem}")


def _choice(what: str, values: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = (values,) if isinstance(values, str) else tuple(values)
    if not chosen or not set(chosen) <= set(known):
        raise ValueError(f"expected {what} among {', '.join(known)}, got {values!r}")
    return tuple(value for value in known if value in chosen)


def _find_root(base_path: str) -> str:
    if "://" in base_path:
        return base_path.rstrip("/")
    base = Path(base_path)
    for folder in (base, base.absolute().parent):
        if (folder / "checksums.json").is_file() and (folder / "data").is_dir():
            return str(folder)
    expected = f"expected a release (checksums.json and data/) in {base} or its parent and found none"
    raise ReleaseError(f"{expected}; pass root=, the folder of one, or repo_id=, its repository on the Hub")


def _base_path(root: Any, repo_id: str | None, revision: str | None) -> str | None:
    if (root and repo_id) or (revision and not repo_id):
        raise ValueError("expected root=, or repo_id= with or without its revision=; leave out what does not belong")
    if not repo_id:
        return str(root) if root else None
    from huggingface_hub import HfApi

    # One commit for every file that is read, whatever is pushed meanwhile.
    return f"hf://datasets/{repo_id}@{HfApi().dataset_info(repo_id, revision=revision).sha}"


def _show(name: str, loaded: dict[str, Any], release: Release) -> None:
    print(f"MMRel {release.version}, config {name}, from {release.root}")
    print(f"checksums.json sha256 {release.sha256}\n{release.note or ''}\n")
    heads = ("pictures", "questions", *CATEGORIES, *TASKS, "yes", "no")
    print(f"{'split':<11}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
    for split, dataset in loaded.items():
        counts = Counter(value for column in ("category", "task", "answer") for value in dataset[column])
        counts.update(questions=len(dataset), pictures=len(set(dataset["image_id"])))
        print(f"{split:<11}" + "".join(f"{counts[head]:>{len(head) + 2}}" for head in heads))
    rows = next(iter(loaded.values()))
    for row in rows.select(sorted({0, len(rows) // 2, len(rows) - 1})):
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
        base_path = _base_path(args.root, args.repo_id, args.revision)
        _show(args.config, load(args.config, root=base_path), Release(base_path or HERE))
    except (OSError, ValueError) as error:
        print(f"mmrel.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
