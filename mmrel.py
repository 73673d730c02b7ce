# SPDX-License-Identifier: Apache-2.0
"""MMRel: relations between objects in images, as a `datasets` builder over the archives of a release.

The file stands alone: it needs `datasets` (with what that brings) and `jsonschema`, and may be copied out of its
repository. `mmrel.load` is the way in on every version of `datasets`; `python mmrel.py real` shows what it loads.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import json
import logging
import os
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import unquote

NEEDED = "pip install datasets jsonschema pillow"

try:  # it takes seconds, and Ctrl-C meanwhile ends the command in one line, as it does later
    import datasets
    import fsspec
    import huggingface_hub
    from huggingface_hub import errors
except (KeyboardInterrupt, ImportError) as error:
    if __name__ != "__main__":
        raise
    if isinstance(error, ImportError):
        sys.exit(f"mmrel.py: {error}; install what it needs: {NEEDED}")
    print("mmrel.py: stopped; run the same command again", file=sys.stderr)
    sys.exit(130)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

__version__ = "1.0.0"

HERE = os.path.dirname(os.path.realpath(__file__))
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
TAR_BLOCK, TAR_RECORD = (
    512,
    10240,
)  # bytes; an archive consists of blocks and ends with a whole record
MAX_RECORDS_BYTES = (
    4 << 20
)  # of one picture's .json member; a record is about 500 bytes and a picture has about 3
MAX_PICTURE_BYTES = MAX_INDEX_BYTES = 256 << 20
CONNECT_SECONDS = 10  # after which the Hub counts as out of reach
DESCRIPTION = (
    "MMRel asks how two objects in a picture relate: spatial, action and comparative relations, in real, SDXL and "
    "DALL-E pictures, as yes/no and open-ended questions, with an adversarial subset of unusual relations."
)
_ARCHIVE = r"data/(\w+)/(\w+)-[0-9]{5}\.tar"
_NO_PATH = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")  # what no path of a file may hold
HUB = "hf://datasets/"
_REPO_ID = r"[\w.-]+/[\w.-]+"
_HUB_ADDRESS = re.compile(rf"{HUB}({_REPO_ID})(?:@(.+))?")
# What the Hub's client raises: answers, broken connections (no OSError from huggingface_hub 1 on), no network.
_HTTP = getattr(huggingface_hub.utils, "httpx", None)
_HUB_FAILURES = (errors.HfHubHTTPError, OSError, *([_HTTP.HTTPError] if _HTTP else []))
_ANY_LENGTH = 1 << 40  # questions of a split before they are counted; far more than there can be
HOMEPAGE = "https://niejiahao1998.github.io/MMRel/"
LICENSE = "cc-by-4.0"
CITATION = """\
@article{nie2024mmrel,
  title = {MMRel: Benchmarking Relation Understanding in Multi-Modal Large Language Models},
  author = {Nie, Jiahao and Zhang, Gongjie and An, Wenbin and Tan, Yap-Peng and Kot, Alex C. and Lu, Shijian},
  journal = {arXiv preprint arXiv:2406.09121}, year = {2024}}"""


_logger = logging.getLogger(__name__)


class ReleaseError(ValueError):
    """A release that is missing, incomplete or broken; the message says where and what to do."""


@dataclasses.dataclass
class MMRelConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One domain, or all of them; of its questions those of some `categories` and `tasks`, or (null) of all."""

    categories: Sequence[str] | None = None
    tasks: Sequence[str] | None = None


class MMRel(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Streams a release's archives: a row per question, the picture's bytes as they came.

    `base_path` is the release: a folder or `hf://datasets/NS/NAME@REVISION`. It defaults to the release that this file
    belongs to. `datasets` before 4.0 passes the folder of the script, `loader/` in a release.
    """

    VERSION = datasets.Version(__version__)
    BUILDER_CONFIG_CLASS = MMRelConfig
    BUILDER_CONFIGS = [
        MMRelConfig(name=name, version=datasets.Version(__version__)) for name in CONFIGS
    ]
    DEFAULT_CONFIG_NAME = "all"
    DEFAULT_WRITER_BATCH_SIZE = (
        100  # rows held while the Arrow cache is written; a DALL-E picture is 1.5 MB
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.release = Release(_release_of_script(kwargs.get("base_path") or HERE))
        kwargs["base_path"] = self.release.root
        # `datasets` keys its cache by the script; the rows come from the release, so it has to be part of the key.
        kwargs["hash"] = hashlib.sha256(
            f"{kwargs.get('hash')} {self.release.sha256}".encode()
        ).hexdigest()
        if kwargs.get("config_name") not in (None, *CONFIGS):
            raise ValueError(
                f"expected a config among {', '.join(CONFIGS)}, got {kwargs['config_name']!r}"
            )
        for key, known in (("categories", CATEGORIES), ("tasks", TASKS)):
            if (values := kwargs.get(key)) is not None:
                chosen = {values} if isinstance(values, str) else set(values)
                if not chosen or not chosen <= set(known):
                    raise ValueError(f"expected {key} among {', '.join(known)}, got {values!r}")
                kwargs[key] = tuple(value for value in known if value in chosen)
        super().__init__(*args, **kwargs)
        self.info.features = make_features()  # plain ones come from a cache that is there already

    @classmethod
    def get_all_exported_dataset_infos(cls) -> dict[str, datasets.DatasetInfo]:
        """Nothing: the card beside this file may describe another release than the one that is loaded."""
        return {}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(DESCRIPTION, CITATION, HOMEPAGE, LICENSE, make_features())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        shards = self.release.archives(self.config.name, self.config.categories)
        paths = {
            split: [self.release.path(name) for name in names] for split, names in shards.items()
        }
        with _hub_failures_in_a_sentence(self.release.root):
            paths = dl_manager.download(paths)
        archives = {
            split: list(zip(names, paths[split], strict=True)) for split, names in shards.items()
        }
        return [
            datasets.SplitGenerator(split, gen_kwargs={"archives": archives[split]})
            for split in shards
        ]

    def _generate_examples(
        self, archives: list[tuple[str, str]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        validate = make_validator(self.release.schema)
        for archive, path in archives:
            size = self.release.files[archive]["size"]
            with _hub_failures_in_a_sentence(path), open_file(path) as file:
                for records, picture in read_archive(file, archive, size, self._keeps):
                    for record in records:
                        _check_record(record, archive, validate)
                        image = {"bytes": picture, "path": record["image_id"]}
                        yield (
                            record["question_id"],
                            {"image": image, **{name: record[name] for name in COLUMNS}},
                        )

    def _keeps(self, record: dict[str, Any]) -> bool:
        chosen = ((self.config.categories, "category"), (self.config.tasks, "task"))
        return all(not values or record.get(field) in values for values, field in chosen)


class Release:
    """A release on disk or on the Hub.

    Its `root` is an absolute folder, or `hf://datasets/NS/NAME@COMMIT`. checksums.json gives the `version` of the
    package that built it, a `note` or null, and `files`: `{path: {"sha256": hex, "size": bytes}}`; its own `sha256`
    names the content of the release. The records follow `schema`. `categories` are those of each archive's questions.

    Args:
        root: a folder (relative to the current one, or `~/…`), or `hf://datasets/NS/NAME[@REVISION]`, which is pinned
            to the commit that the revision names now.

    Raises:
        ReleaseError: there is no release at `root`, or none that can be reached.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = _find_root(os.fspath(root))
        text, schema = self._read("checksums.json"), self._read("schema/record.schema.json")
        self.sha256 = hashlib.sha256(text).hexdigest()
        try:
            index = parse_index(text)
            self.version: str = index["version"]
            self.note: str | None = index["note"]
            self.files: dict[str, dict[str, Any]] = {
                name: {**file} for name, file in index["files"].items()
            }
            self.categories = {
                name: {*file.get("categories", CATEGORIES)} for name, file in self.files.items()
            }
            self.schema: dict[str, Any] = json.loads(schema)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            where = f"{self.root}: checksums.json or schema/record.schema.json"
            problem = (
                str(error)
                if isinstance(error, ReleaseError)
                else f"expected those of a release, got {error!r}"
            )
            raise ReleaseError(f"{where}: {problem}; fetch it again") from None

    def _read(self, name: str) -> bytes:
        with open_file(self.fetch(name)) as file:
            return file.read(MAX_INDEX_BYTES)

    def fetch(self, name: str) -> str:
        """Return where a file of the release is, downloaded whole first where the release is on the Hub."""
        address = parse_hub_address(self.root)
        return _download(*address, name) if address else self.path(name)

    def path(self, name: str) -> str:
        """Return where a file of the release is, from its path in the release: on disk, if it was downloaded before."""
        if "://" not in self.root:
            return os.path.join(self.root, *name.split("/"))
        if address := parse_hub_address(self.root):
            repo_id, commit = address
            cached = huggingface_hub.try_to_load_from_cache(
                repo_id, name, revision=commit, repo_type="dataset"
            )
            if isinstance(cached, str):
                return cached
        return f"{self.root}/{name}"

    def archives(
        self, config: str, categories: Sequence[str] | None = None
    ) -> dict[str, list[str]]:
        """Archives of a config by split, in order, that hold some `categories`; `ReleaseError` if there are none."""
        found = [match for name in sorted(self.files) if (match := re.fullmatch(_ARCHIVE, name))]
        wanted = [(match[2], match[0]) for match in found if config in ("all", match[1])]
        shards = {split: [name for of, name in wanted if of == split] for split in SPLITS}
        if not any(shards.values()):
            present = ", ".join(sorted({match[1] for match in found})) or "none"
            raise ReleaseError(
                f"{self.root} has no archives for {config!r}; domains present: {present}"
            )
        want = set(categories or CATEGORIES)
        # A split keeps one archive at least, since `datasets` knows no split of none.
        return {
            s: [n for n in names if self.categories[n] & want] or names[:1]
            for s, names in shards.items()
            if names
        }


def load(
    name: str = "all",
    split: Any = None,
    streaming: bool = False,
    root: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    revision: str | None = None,
    categories: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    cache_dir: str | None = None,
    num_proc: int | None = None,
) -> Any:
    """Load MMRel on any version of `datasets` from 3.6 on, streaming from the archives of a release.

    Args:
        name: `all`, or a domain: `real`, `sdxl`, `dalle`.
        split: what `load_dataset` takes: `train`, `test` or `adversarial`; `train+test`, `all`, a `datasets.Split`; a
            slice (`test[:10]`, `test[:5%]`) or `ReadInstruction`, where rows are not streamed; a list of these. None
            gives all splits that exist, by name.
        streaming: read rows as they are asked for instead of writing them to the cache first.
        root: folder of the release; default: the release that this file belongs to.
        repo_id: a release on the Hub (`NS/MMRel`) instead of a folder. What the plain load has downloaded loads without
            a network, as a stream too; what was streamed is not kept.
        revision: branch, tag or commit of `repo_id`; default: its main branch as it stands now.
        categories: keep only these of `spatial`, `action`, `comparative`.
        tasks: keep only these of `discriminative`, `generative`. Where nothing matches there are no rows.
        cache_dir: where `datasets` keeps its cache.
        num_proc: processes that write the cache, at most one an archive; default: none beside this one.

    Returns:
        A `Dataset` or `IterableDataset`; a list of them for a list of splits; without `split` a dict of them.

    Raises:
        ReleaseError: there is no release, it lacks what was asked for, or it is broken or out of reach.
        ValueError: an unknown config, category or task, a split that cannot be read, a slice of a stream, or arguments
            that contradict each other.
    """
    if num_proc is not None and (not isinstance(num_proc, int) or num_proc < 1):
        raise ValueError(f"expected num_proc to be a whole number from 1 on, got {num_proc!r}")
    if streaming and num_proc is not None:
        raise ValueError(
            "num_proc= is for the plain load; share a stream over the workers of a DataLoader instead"
        )
    builder = MMRel(
        config_name=name,
        dataset_name="mmrel",
        base_path=find_release(root, repo_id, revision),
        cache_dir=cache_dir,
        **{
            key: value
            for key, value in (("categories", categories), ("tasks", tasks))
            if value is not None
        },
    )
    present = list(builder.release.archives(name))
    asked = (
        list(split) if isinstance(split, (list, tuple)) else present if split is None else [split]
    )
    # A split that does not exist is an error before anything is read.
    instructions = [_parse_split(one, present, builder) for one in asked]
    if streaming:
        loaded = [_stream(builder, instruction) for instruction in instructions]
    else:
        _prepare(builder, num_proc)
        loaded = [_read_cache(builder, instruction) for instruction in instructions]
    if split is None:
        by_name = datasets.IterableDatasetDict if streaming else datasets.DatasetDict
        return by_name(zip(present, loaded, strict=True))
    return loaded if isinstance(split, (list, tuple)) else loaded[0]


def _parse_split(split: Any, present: Sequence[str], builder: MMRel) -> datasets.ReadInstruction:
    """Return what `split` asks for; `ReleaseError` if it names a split that the release does not have."""
    text = "+".join(present) if str(split) == "all" else str(split)
    try:
        instruction = datasets.ReadInstruction.from_spec(text)
        named = instruction.to_absolute(dict.fromkeys((*SPLITS, *present), _ANY_LENGTH))
    except (ValueError, AssertionError):
        raise ReleaseError(
            f"expected a split among {', '.join(present)}, several ('train+test', 'all') or a slice ('test[:10]'), "
            f"got {text[:200]!r}"
        ) from None
    for part in named:
        if part.splitname not in present:
            where = (
                f"{builder.release.root} has no split {part.splitname!r} of {builder.config.name!r}"
            )
            raise ReleaseError(f"{where}; present: {', '.join(present)}")
    return instruction


def _stream(builder: MMRel, instruction: datasets.ReadInstruction) -> datasets.IterableDataset:
    """Return a stream of whole splits, one after the other."""
    streams = []
    archives = builder.release.archives(builder.config.name)
    for part in instruction.to_absolute(dict.fromkeys(archives, _ANY_LENGTH)):
        if part.from_ or part.to not in (None, _ANY_LENGTH):
            raise ValueError(
                f"expected whole splits, such as 'test' or 'train+test', got {str(instruction)!r}: a stream has no "
                "slices; use .skip(N) and .take(N), or streaming=False"
            )
        wanted = {*(builder.config.categories or CATEGORIES)}
        if not any(builder.release.categories[name] & wanted for name in archives[part.splitname]):
            _warn_of_no_questions(builder, part.splitname)
        streams.append(builder.as_streaming_dataset(split=part.splitname))
    return streams[0] if len(streams) == 1 else datasets.concatenate_datasets(streams)


def _prepare(builder: MMRel, num_proc: int | None) -> None:
    """Write the rows to the cache of `datasets`, unless they are there."""
    try:
        builder.download_and_prepare(num_proc=num_proc)
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, ReleaseError):
            raise error.__cause__ from None
        # Of what a process of num_proc raised only the text arrives.
        if found := re.findall(
            r"^(?:[\w.]+\.)?ReleaseError: (.+)$", str(error.__cause__), re.MULTILINE
        ):
            raise ReleaseError(found[0]) from None
        raise


def _read_cache(builder: MMRel, instruction: datasets.ReadInstruction) -> datasets.Dataset:
    """Return the rows from the cache; `datasets` itself refuses to return none."""
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    rows = 0
    for part in instruction.to_absolute(counts):
        if not counts[part.splitname]:
            _warn_of_no_questions(builder, part.splitname)
        end = counts[part.splitname] if part.to is None else part.to
        rows += max(0, end - (part.from_ or 0))
    if rows:
        return builder.as_dataset(split=instruction)
    nothing: dict[str, list[Any]] = {column: [] for column in builder.info.features}
    return datasets.Dataset.from_dict(
        nothing, builder.info.features, split=datasets.Split(str(instruction))
    )


def _warn_of_no_questions(builder: MMRel, split: str) -> None:
    kinds = ", ".join((*(builder.config.categories or ()), *(builder.config.tasks or ())))
    _logger.warning(
        "%s: no %s questions of %r in %r", builder.release.root, kinds, builder.config.name, split
    )


def make_features() -> datasets.Features:
    """The columns of every config and split: one `Image`, then the record's fields as strings."""
    return _Features(
        {"image": datasets.Image(), **{column: datasets.Value("string") for column in COLUMNS}}
    )


class _Features(datasets.Features):  # type: ignore[misc]
    def __reduce__(self) -> tuple[Any, ...]:
        return _Features, (dict(self),)

    def encode_example(self, example: dict[str, Any]) -> dict[str, Any]:
        # Rows are as they should be. Looking into each value for what to convert takes longer than reading, and would
        # put a file that happens to stand at `image_id` in the current folder in the picture's place.
        if example.keys() == self.keys() and all(
            _is_encoded(example[name], self[name]) for name in self
        ):
            return example
        return super().encode_example(example)  # type: ignore[no-any-return]


def _is_encoded(value: Any, feature: Any) -> bool:
    if type(feature) is datasets.Value:
        return feature.dtype == "string" and (value is None or type(value) is str)
    return (
        isinstance(feature, datasets.Image)
        and type(value) is dict
        and type(value.get("bytes")) is bytes
    )


def parse_index(text: bytes) -> dict[str, Any]:
    """Parse checksums.json: `version`, `note` (text or None), and `files` by their paths inside the release.

    Of each file `sha256` and `size` are stated.

    Raises:
        ReleaseError: it is something else.
    """
    try:
        index: dict[str, Any] = json.loads(text)
        version, note = index["version"], index["note"]
        if not isinstance(version, str) or not isinstance(note, (str, type(None))):
            raise ValueError(f"version {version!a:.80} and note {note!a:.80}, which are no text")
        for name, described in index["files"].items():
            _check_listed(name, described)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise ReleaseError(
            f"expected version, note, and the sha256 and size of each file, got {got}"
        ) from None
    return index


def _check_listed(name: str, described: dict[str, Any]) -> None:
    sha256, size = described["sha256"], described["size"]
    if {"", ".", ".."} & {*name.split("/")} or _NO_PATH.search(name):
        raise ValueError(f"{name[:200]!a}, which is no path inside a release")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256) or type(size) is not int or size < 0:
        raise ValueError(f"sha256 {sha256[:80]!a} and size {size!a:.80} of {name[:200]!r}")


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
        told = [
            ("/".join(map(str, getattr(e, path))), e.message[:300])
            for e in validator.iter_errors(record)
        ]
        return "field {}: {}".format(*min(told))

    return validate


def read_archive(
    file: BinaryIO,
    name: str,
    size: int,
    keep: Callable[[dict[str, Any]], bool] = lambda record: True,
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
            raise ReleaseError(
                f"{name}:{header[0]}: expected the picture {named!r} after it, got {got!r}"
            )
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
        raise ReleaseError(
            f"{name}: expected {size} bytes, the archive ends at {end}; fetch the release again"
        )


def open_file(path: str) -> BinaryIO:
    """Open a file of a release for reading, local or at a URL that fsspec knows."""
    if "://" not in path:
        return open(path, "rb")
    system, path = fsspec.core.url_to_fs(path)
    # Hugging Face's file system then reads a file as it comes, in one request; its default is requests of 5 MB.
    return system.open(path, "rb", block_size=0 if "hf" in system.protocol else None)  # type: ignore[no-any-return]


def _read_header(
    file: BinaryIO, archive: str, limit: int, name: str = ""
) -> tuple[str, int] | None:
    """Name and size of the member whose content comes next; null at the end. `name`: what stood before the header."""
    block = _read(file, archive, TAR_BLOCK)
    if not (name or any(block)):
        return None
    kind, digits = block[156:157], block[124:135]
    if block[257:263] != b"ustar\0" or block[148:154] != b"%06o" % (
        sum(block) - sum(block[148:156]) + 8 * 32
    ):
        raise ReleaseError(f"{archive}: damaged before byte {file.tell()}; fetch the release again")
    size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
    if kind == b"x" and not name and 0 < size <= MAX_RECORDS_BYTES:
        long = re.fullmatch(rb"%d path=([^\n\0]+)\n" % size, _read(file, archive, size))
        return _read_header(
            file, archive, limit, long[1].decode(errors="replace") if long else ascii(block[:100])
        )
    name = name or block[:100].rstrip(b"\0").decode(errors="replace")
    if kind != b"0" or not 0 <= size <= limit:
        expected, got = f"a plain file of at most {limit} bytes", f"{size} bytes of type {kind!r}"
        raise ReleaseError(f"{archive}:{name}: expected {expected}, got {got}")
    return name, size


def _read(file: BinaryIO, where: str, size: int) -> bytes:
    data, padding = file.read(size), -size % TAR_BLOCK
    if (got := len(data) + len(file.read(padding))) < size + padding:
        raise ReleaseError(
            f"{where}: cut off after {got} of {size + padding} bytes; fetch the release again"
        )
    return data


def _read_records(file: BinaryIO, where: str, size: int) -> list[dict[str, Any]]:
    data = _read(file, where, size)
    try:
        records = json.loads(data)
    except (ValueError, RecursionError):
        records = None
    if not (
        isinstance(records, list)
        and records
        and all(isinstance(record, dict) for record in records)
    ):
        raise ReleaseError(
            f"{where}: expected a JSON array of records before each picture, got {ascii(data[:60])}"
        )
    return records


def _check_record(record: dict[str, Any], name: str, validate: Callable[[Any], str | None]) -> None:
    problem, domain = validate(record), name.split("/")[1]
    if problem or record["domain"] != domain:
        problem = problem or f"field domain: expected {domain!r}, got {record['domain']!r}"
        raise ReleaseError(
            f"{name}:{record.get('image_id')}: question {record.get('question_id')!r}, {problem}"
        )


def find_release(
    root: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    revision: str | None = None,
) -> str:
    """Return the root of the release that the arguments name; of the one that this file belongs to if they name none.

    Args:
        root: see `Release`.
        repo_id: a release on the Hub, `NS/NAME`.
        revision: branch, tag or commit of `repo_id`.

    Raises:
        ReleaseError: there is none, or the arguments contradict each other.
    """
    if (root is not None and repo_id is not None) or (revision is not None and repo_id is None):
        raise ReleaseError(
            "expected root= (--root), or repo_id= (--repo-id) with or without its revision= (--revision); "
            "leave out what does not belong"
        )
    if repo_id is not None:
        if not re.fullmatch(_REPO_ID, repo_id):
            raise ReleaseError(f"expected repo_id to be NS/NAME, got {repo_id[:200]!r}")
        return _find_on_hub(f"{HUB}{repo_id}" if revision is None else f"{HUB}{repo_id}@{revision}")
    if root is not None:
        return _find_root(os.fspath(root))
    try:
        return _find_root(_release_of_script(HERE))
    except ReleaseError as error:
        named = (
            "the folder of one (root=, --root) or its repository on the Hub (repo_id=, --repo-id)"
        )
        raise ReleaseError(f"{error}, or name {named}") from None


def parse_hub_address(address: str) -> tuple[str, str | None] | None:
    """Return the repository and the revision of `hf://datasets/NS/NAME[@REVISION]`; None if it is something else.

    >>> parse_hub_address("hf://datasets/NS/MMRel@v1.0.0")
    ('NS/MMRel', 'v1.0.0')
    """
    match = _HUB_ADDRESS.fullmatch(address.rstrip("/"))
    if not match or ".." in unquote(address):
        return None
    return match[1], unquote(match[2]) if match[2] else None


def _release_of_script(folder: str) -> str:
    """Return the release above the script's folder `loader/`, the sample of an installed one, or `folder`."""
    above, name = os.path.split(os.path.abspath(folder))
    if name == "loader" and os.path.isfile(os.path.join(folder, "mmrel.py")):
        return above
    sample = os.path.join(folder, "mmrel_kit", "sample")
    return sample if os.path.isdir(sample) else folder


def _find_root(root: str) -> str:
    """Return the release at `root`, as an absolute folder or an `hf://` URL pinned to a commit; nothing beside it."""
    if root.startswith("hf://"):
        return _find_on_hub(root)
    if "://" in root:
        return root.rstrip("/")
    folder = os.path.abspath(os.path.expanduser(root))
    is_folder = bool(root) and os.path.isdir(folder)
    if is_folder and os.path.isfile(os.path.join(folder, "checksums.json")):
        return folder
    got = f"the folder {folder!r} without one" if is_folder else f"{root!r}, which is no folder"
    raise ReleaseError(
        f"expected a release, a folder with checksums.json and data/, got {got}; check its path"
    )


def _find_on_hub(address: str) -> str:
    """Return the address of a release on the Hub, pinned to the commit that its revision names now."""
    parsed = parse_hub_address(address)
    if parsed is None:
        raise ReleaseError(f"expected {HUB}NS/NAME or {HUB}NS/NAME@REVISION, got {address[:200]!r}")
    repo_id, revision = parsed
    index = _download(repo_id, revision, "checksums.json")
    # One commit for every file that is read, whatever is pushed meanwhile.
    return f"{HUB}{repo_id}@{os.path.basename(os.path.dirname(index))}"


def _download(repo_id: str, revision: str | None, name: str) -> str:
    """Return the path of a file of a dataset repository in the Hub's cache, where it stays for later use offline."""
    repository = f"{repo_id}@{revision}" if revision else repo_id
    with _hub_failures_in_a_sentence(f"{HUB}{repository}/{name}"):
        try:
            if (
                huggingface_hub.try_to_load_from_cache(
                    repo_id, name, revision=revision, repo_type="dataset"
                )
                is None
            ):
                # Without a network this fails at once; the download would retry for half a minute.
                huggingface_hub.HfApi().dataset_info(
                    repo_id, revision=revision, timeout=CONNECT_SECONDS
                )
            return huggingface_hub.hf_hub_download(
                repo_id, name, repo_type="dataset", revision=revision
            )
        except errors.HFValidationError:
            problem = f"expected repo_id to be NS/NAME, got {repo_id[:200]!r}"
        except errors.RepositoryNotFoundError:
            problem = f"no dataset {repo_id!r} on the Hub that you may read; check the name, or run 'hf auth login'"
        except errors.RevisionNotFoundError:
            problem = f"{repo_id} has no branch, tag or commit {revision!r}; check revision="
        except (
            errors.LocalEntryNotFoundError
        ):  # an EntryNotFoundError, but of the cache: there is no network
            raise
        except errors.EntryNotFoundError:
            problem = f"{repository} is no release of MMRel: it has no {name}; check repo_id= and revision="
    raise ReleaseError(problem)


@contextlib.contextmanager
def _hub_failures_in_a_sentence(path: str) -> Iterator[None]:
    """Raise what the Hub's client raises about a file at a URL as a `ReleaseError`."""
    try:
        yield
    except _HUB_FAILURES as error:
        if "://" not in path:
            raise
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
        reason = re.sub(r"\?[^\s'\"]+", "?…", line)[
            :300
        ]  # the query of an address may be a signature
        raise ReleaseError(
            f"{path} was not downloaded before and cannot be read now ({reason}); check the network and retry"
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Show what a config holds; `python mmrel.py show real` and `python mmrel.py real` are the same."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="mmrel.py", description=show.__doc__)
    add_arguments(parser)
    try:
        try:
            return show(parser.parse_args(given[1:] if given[:1] == ["show"] else given))
        finally:
            print(end="", flush=True)  # argparse's help, too
    except KeyboardInterrupt:
        print("mmrel.py: stopped; the same command starts again", file=sys.stderr)
        return 130
    except BrokenPipeError:  # nobody reads the output any more, as after `| head`
        pass
    except ImportError as error:
        print(f"mmrel.py: {error}; install what it needs: {NEEDED}", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"mmrel.py: {error}", file=sys.stderr)
    try:
        print(end="", flush=True)
    except OSError:  # Python would complain at its end of what cannot be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def add_release_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a release, which `find_release` takes."""
    where = f"folder of a release, or {HUB}NS/NAME[@REVISION] (the drawn sample, or the release of this file)"
    parser.add_argument("--root", metavar="RELEASE", help=where)
    parser.add_argument("--repo-id", metavar="NS/NAME", help="a release on the Hub")
    parser.add_argument(
        "--revision", metavar="REV", help="branch, tag or commit of --repo-id (main)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `show`."""
    parser.add_argument(
        "config", nargs="?", default="all", choices=CONFIGS, help="domain (%(default)s)"
    )
    add_release_arguments(parser)


def show(args: argparse.Namespace) -> int:
    """Show what a config holds: counts, three questions with their answers, and their source."""
    make_validator({})  # what is missing is said before the work
    importlib.import_module("PIL.Image")
    release = Release(find_release(args.root, args.repo_id, args.revision))
    loaded = load(args.config, root=release.root)
    if release.note:
        print(release.note)
    print(f"MMRel {release.version}, config {args.config}, from {release.root}")
    print(f"checksums.json sha256 {release.sha256}\n")
    heads = ("pictures", "questions", *CATEGORIES, *TASKS, "yes", "no")
    print(f"{'split':<11}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
    for split, rows in loaded.items():
        counts = Counter(
            value for column in ("category", "task", "answer") for value in rows[column]
        )
        counts.update(questions=len(rows), pictures=len(set(rows["image_id"])))
        print(f"{split:<11}" + "".join(f"{counts[head]:>{len(head) + 2}}" for head in heads))
    rows = next(iter(loaded.values()))
    for row in rows.select(sorted({0, len(rows) // 2, len(rows) - 1})):
        size = "{} x {}".format(*row["image"].size)
        print(
            f"\n{row['image_id']} ({size})\n  {row['question']} {row['instruction'] or ''}\n  -> {row['answer']}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
