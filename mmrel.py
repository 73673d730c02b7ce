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
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import fsspec

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
TAR_BLOCK, TAR_RECORD = 512, 10240  # bytes; an archive consists of blocks and ends with a whole record
MAX_RECORDS_BYTES = 4 << 20  # of one picture's .json member; a record is about 500 bytes and a picture has about 3
MAX_PICTURE_BYTES = MAX_INDEX_BYTES = 256 << 20
DESCRIPTION = (
    "MMRel asks how two objects in a picture relate: spatial, action and comparative relations, in real, SDXL and "
    "DALL-E pictures, as yes/no and open-ended questions, with an adversarial subset of unusual relations."
)
_ARCHIVE = r"data/(\w+)/(\w+)-[0-9]{5}\.tar"
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
    """One domain, or all of them; of its questions those of some `categories` and `tasks`, or (null) of all."""

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
        for key, known in (("categories", CATEGORIES), ("tasks", TASKS)):
            if (values := kwargs.get(key)) is not None:
                chosen = {values} if isinstance(values, str) else set(values)
                if not chosen or not chosen <= set(known):
                    raise ValueError(f"expected {key} among {', '.join(known)}, got {values!r}")
                kwargs[key] = tuple(value for value in known if value in chosen)
        super().__init__(*args, **kwargs)

    @classmethod
    def get_all_exported_dataset_infos(cls) -> dict[str, datasets.DatasetInfo]:
        """Nothing: the card beside this file may describe another release than the one that is loaded."""
        return {}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(DESCRIPTION, CITATION, HOMEPAGE, LICENSE, make_features())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        shards = self.release.archives(self.config.name, self.config.categories)
        paths = dl_manager.download({split: [self.release.path(n) for n in names] for split, names in shards.items()})
        archives = {split: list(zip(names, paths[split], strict=True)) for split, names in shards.items()}
        return [datasets.SplitGenerator(split, gen_kwargs={"archives": archives[split]}) for split in shards]

    def _generate_examples(self, archives: list[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        validate = make_validator(self.release.schema)
        for archive, path in archives:
            with open_file(path) as file:
                for records, picture in read_archive(file, archive, self.release.files[archive]["size"], self._keeps):
                    for record in records:
                        _check_record(record, archive, validate)
                        image = {"bytes": picture, "path": record["image_id"]}
                        yield record["question_id"], {"image": image, **{name: record[name] for name in COLUMNS}}

    def _keeps(self, record: dict[str, Any]) -> bool:
        chosen = ((self.config.categories, "category"), (self.config.tasks, "task"))
        return all(not values or record.get(field) in values for values, field in chosen)


class Release:
    """A release on disk or on the Hub.

    Its `root` is a folder or `hf://` URL. checksums.json gives the `version` of the package that built it, a `note` or
    null, and `files`: `{path: {"sha256": hex, "size": bytes}}`; its own `sha256` names the content of the release. The
    records follow `schema`. `categories` are those of each archive's questions.
    """

    def __init__(self, root: str) -> None:
        self.root = _find_root(str(root))
        with open_file(self.path("checksums.json")) as one, open_file(self.path("schema/record.schema.json")) as other:
            text, schema = one.read(MAX_INDEX_BYTES), other.read(MAX_INDEX_BYTES)
        self.sha256 = hashlib.sha256(text).hexdigest()
        try:
            index = json.loads(text)
            self.version: str = index["version"]
            self.note: str | None = index["note"]
            self.files: dict[str, dict[str, Any]] = {name: {**file} for name, file in index["files"].items()}
            self.categories = {name: {*file.get("categories", CATEGORIES)} for name, file in self.files.items()}
            self.schema: dict[str, Any] = json.loads(schema)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            where = f"{self.root}: checksums.json or schema/record.schema.json"
            raise ReleaseError(f"{where}: expected those of a release, got {error!r}; fetch it again") from None

    def path(self, name: str) -> str:
        """Where a file of the release is, from its path in the release."""
        return f"{self.root}/{name}" if "://" in self.root else os.path.join(self.root, *name.split("/"))

    def archives(self, config: str, categories: Sequence[str] | None = None) -> dict[str, list[str]]:
        """Archives of a config by split, in order, that hold some `categories`; `ReleaseError` if there are none."""
        found = [match for name in sorted(self.files) if (match := re.fullmatch(_ARCHIVE, name))]
        wanted = [(match[2], match[0]) for match in found if config in ("all", match[1])]
        shards = {split: [name for of, name in wanted if of == split] for split in SPLITS}
        if not any(shards.values()):
            present = ", ".join(sorted({match[1] for match in found})) or "none"
            raise ReleaseError(f"{self.root} has no archives for {config!r}; domains present: {present}")
        want = set(categories or CATEGORIES)
        # A split keeps one archive at least, since `datasets` knows no split of none.
        return {s: [n for n in names if self.categories[n] & want] or names[:1] for s, names in shards.items() if names}


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
    return _Features({"image": datasets.Image(), **{column: datasets.Value("string") for column in COLUMNS}})


class _Features(datasets.Features):  # type: ignore[misc]
    def __reduce__(self) -> tuple[Any, ...]:
        return _Features, (dict(self),)

    def encode_example(self, example: dict[str, Any]) -> dict[str, Any]:
        # Rows are as they should be. Looking into each value for what to convert takes longer than reading, and would
        # put a file that happens to stand at `image_id` in the current folder in the picture's place.
        if example.keys() == self.keys() and all(_is_encoded(example[name], self[name]) for name in self):
            return example
        return super().encode_example(example)  # type: ignore[no-any-return]


def _is_encoded(value: Any, feature: Any) -> bool:
    if type(feature) is datasets.Value:
        return feature.dtype == "string" and (value is None or type(value) is str)
    return isinstance(feature, datasets.Image) and type(value) is dict and type(value.get("bytes")) is bytes


def make_validator(schema: dict[str, Any]) -> Callable[[Any], str | None]:
    """A function that says what is wrong with a record (`field: message`), or null.

    jsonschema-rs is used where it is installed (a hundred times as fast, same verdicts), else jsonschema.
    """
    try:
        jsonschema, path = importlib.import_module("jsonschema_rs"), "instance_path"
    except ImportError:
        jsonschema, path = importlib.import_module("jsonschema"), "absolute_path"
    validator = jsonschema.Draft202012Validator(schema)

    def validate(record: Any) -> str | None:
        if validator.is_valid(record):
            return None
        told = [("/".join(map(str, getattr(e, path))), e.message[:300]) for e in validator.iter_errors(record)]
        return "field {}: {}".format(*min(told))

    return validate


def read_archive(
    file: BinaryIO, name: str, size: int, keep: Callable[[dict[str, Any]], bool] = lambda record: True
) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """Yield the records and the bytes of each picture of a WebDataset shard, in constant memory.

    Of what tar can be it knows plain files and long names, as a release has them, and refuses the rest.

    Args:
        file: the archive; it is read once, forwards.
        name: what errors call it.
        size: bytes that the archive has when it is whole.
        keep: which records are wanted; a picture without any is passed over, unread where the file can seek.

    Raises:
        ReleaseError: the archive is cut off or is not a series of records and their picture.
    """
    while header := _read_header(file, name, MAX_RECORDS_BYTES):
        records = _read_records(file, f"{name}:{header[0]}", header[1])
        picture, length = _read_header(file, name, MAX_PICTURE_BYTES) or (None, 0)
        if not picture or any(record.get("image_id") != picture for record in records):
            named, got = records[0].get("image_id"), picture or "the end"
            raise ReleaseError(f"{name}:{header[0]}: expected the picture {named!r} after it, got {got!r}")
        if kept := [record for record in records if keep(record)]:
            yield kept, _read(file, f"{name}:{picture}", length)
        else:
            try:
                file.seek(length + -length % TAR_BLOCK, os.SEEK_CUR)
            except ValueError:  # it is a stream
                _read(file, f"{name}:{picture}", length)
    # A block of zeros looks like the end wherever it stands; the archive is whole if it ends where its size says.
    end = file.tell() + TAR_BLOCK
    if end + -end % TAR_RECORD != size:
        raise ReleaseError(f"{name}: expected {size} bytes, the archive ends at {end}; fetch the release again")


def open_file(path: str) -> BinaryIO:
    """Open a file of a release for reading, local or at a URL that fsspec knows."""
    if "://" not in path:
        return open(path, "rb")
    system, path = fsspec.core.url_to_fs(path)
    # Hugging Face's file system then reads a file as it comes, in one request; its default is requests of 5 MB.
    return system.open(path, "rb", block_size=0 if "hf" in system.protocol else None)  # type: ignore[no-any-return]


def _read_header(file: BinaryIO, archive: str, limit: int, name: str = "") -> tuple[str, int] | None:
    """Name and size of the member whose content comes next; null at the end. `name`: what stood before the header."""
    block = _read(file, archive, TAR_BLOCK)
    if not (name or any(block)):
        return None
    kind, digits = block[156:157], block[124:135]
    if block[257:263] != b"ustar\0" or block[148:154] != b"%06o" % (sum(block) - sum(block[148:156]) + 8 * 32):
        raise ReleaseError(f"{archive}: damaged before byte {file.tell()}; fetch the release again")
    size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
    if kind == b"x" and not name and 0 < size <= MAX_RECORDS_BYTES:
        long = re.fullmatch(rb"%d path=([^\n\0]+)\n" % size, _read(file, archive, size))
        return _read_header(file, archive, limit, long[1].decode(errors="replace") if long else ascii(block[:100]))
    name = name or block[:100].rstrip(b"\0").decode(errors="replace")
    if kind != b"0" or not 0 <= size <= limit:
        expected, got = f"a plain file of at most {limit} bytes", f"{size} bytes of type {kind!r}"
        raise ReleaseError(f"{archive}:{name}: expected {expected}, got {got}")
    return name, size


def _read(file: BinaryIO, where: str, size: int) -> bytes:
    data, padding = file.read(size), -size % TAR_BLOCK
    if (got := len(data) + len(file.read(padding))) < size + padding:
        raise ReleaseError(f"{where}: cut off after {got} of {size + padding} bytes; fetch the release again")
    return data


def _read_records(file: BinaryIO, where: str, size: int) -> list[dict[str, Any]]:
    data = _read(file, where, size)
    try:
        records = json.loads(data)
    except (ValueError, RecursionError):
        records = None
    if not (isinstance(records, list) and records and all(isinstance(record, dict) for record in records)):
        raise ReleaseError(f"{where}: expected a JSON array of records before each picture, got {ascii(data[:60])}")
    return records


def _check_record(record: dict[str, Any], name: str, validate: Callable[[Any], str | None]) -> None:
    problem, domain = validate(record), name.split("/")[1]
    if problem or record["domain"] != domain:
        problem = problem or f"field domain: expected {domain!r}, got {record['domain']!r}"
        raise ReleaseError(f"{name}:{record.get('image_id')}: question {record.get('question_id')!r}, {problem}")


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
        release, loaded = Release(base_path or HERE), load(args.config, root=base_path)
    except (OSError, ValueError) as error:
        print(f"mmrel.py: {error}", file=sys.stderr)
        return 1
    print(f"MMRel {release.version}, config {args.config}, from {release.root}")
    print(f"checksums.json sha256 {release.sha256}\n{release.note or ''}\n")
    heads = ("pictures", "questions", *CATEGORIES, *TASKS, "yes", "no")
    print(f"{'split':<11}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
    for split, rows in loaded.items():
        counts = Counter(value for column in ("category", "task", "answer") for value in rows[column])
        counts.update(questions=len(rows), pictures=len(set(rows["image_id"])))
        print(f"{split:<11}" + "".join(f"{counts[head]:>{len(head) + 2}}" for head in heads))
    rows = next(iter(loaded.values()))
    for row in rows.select(sorted({0, len(rows) // 2, len(rows) - 1})):
        size = "{} x {}".format(*row["image"].size)
        print(f"\n{row['image_id']} ({size})\n  {row['question']} {row['instruction'] or ''}\n  -> {row['answer']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
