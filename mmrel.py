# SPDX-License-Identifier: Apache-2.0
"""MMRel: relations between objects in images, as a `datasets` builder over a release's archives.

    rows = mmrel.load("real", split="test")

`load` works on every version of `datasets` from 3.6 on. The file works when it is copied alone: it
needs `datasets` and `jsonschema`. The command `python mmrel.py real` needs the package `mmrel_kit`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import logging
import os
import re
import shutil
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import unquote

if __name__ == "__main__":  # the command; it starts before the imports below, which take seconds
    try:
        cli = importlib.import_module("mmrel_kit.cli")
    except ModuleNotFoundError as error:
        sys.exit(f"mmrel.py: {error}, which the command needs; run 'pip install .' in a clone")
    cli.guard_start("mmrel.py")
    arguments = sys.argv[1:]
    if arguments[:1] != ["show"]:
        arguments = ["show", *arguments]
    sys.exit(cli.main(arguments, verbs=("show",), prog="mmrel.py"))

import datasets
import filelock
import fsspec
import huggingface_hub as hub
from huggingface_hub import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any, BinaryIO

    Record = dict[str, Any]
    StrPath = str | os.PathLike[str]

__version__ = "1.0.0"

HERE = os.path.dirname(os.path.realpath(__file__))
DOMAINS = ("real", "sdxl", "dalle")
CONFIGS = ("all", *DOMAINS)
SPLITS = ("train", "test", "adversarial")
CATEGORIES = ("spatial", "action", "comparative")
TASKS = ("discriminative", "generative")
# The columns beside the Image `image`: strings, null where the record says so.
COLUMNS = (
    *("question_id", "image_id", "domain", "category", "task", "subject", "relation", "object"),
    *("question", "instruction", "answer", "style", "pair_id", "source"),
)
TAR_BLOCK = 512  # bytes
TAR_RECORD = 10240  # bytes, of which an archive's size is a multiple
MAX_RECORDS_BYTES = 4 << 20  # of a picture's records, about three of 500 bytes
MAX_PICTURE_BYTES = 256 << 20
MAX_INDEX_BYTES = 256 << 20
PICTURES = "mmrel_pictures"  # folder of the cache of `datasets`
HASH_BYTES = 1 << 20  # that are passed to the hashing thread at a time
HASH_TASKS = 8  # parts of that size that may wait for it
CONNECT_SECONDS = 10  # after which the Hub counts as out of reach
HUB = "hf://datasets/"
HOMEPAGE = "https://niejiahao1998.github.io/MMRel/"
LICENSE = "cc-by-4.0"
DESCRIPTION = (
    "MMRel asks how two objects in a picture relate: spatial, action and comparative relations, in "
    "real, SDXL and DALL-E pictures, as yes/no and open-ended questions, with an adversarial "
    "subset of unusual relations."
)
CITATION = """\
@article{nie2024mmrel,
  title = {MMRel: Benchmarking Relation Understanding in Multi-Modal Large Language Models},
  author = {Nie, Jiahao and Zhang, Gongjie and An, Wenbin and Tan, Yap-Peng and Kot, Alex C. \
and Lu, Shijian},
  journal = {arXiv preprint arXiv:2406.09121}, year = {2024}}"""

_ARCHIVE = re.compile(rf"data/({'|'.join(DOMAINS)})/({'|'.join(SPLITS)})-([0-9]{{5}})\.tar")
_NO_PATH = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")  # characters that no path may contain
_REPO_ID = r"[\w.-]+/[\w.-]+"
_HUB_ADDRESS = re.compile(rf"{HUB}({_REPO_ID})(?:@(.+))?")
_HUB_FAILURES: tuple[type[Exception], ...] = (OSError,)
if hasattr(hub.utils, "httpx"):  # from version 1 on
    _HUB_FAILURES += (hub.utils.httpx.HTTPError,)
_ANY_LENGTH = 1 << 40  # stands for the length of a split that is not counted yet
_logger = logging.getLogger(__name__)


class ReleaseError(ValueError):
    """A release is missing, incomplete or broken; the message says where and what to do."""


@dataclasses.dataclass
class MMRelConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """A domain, or all; `categories` and `tasks` choose questions, None chooses all.

    `verify` and `embed` are those of `load`.
    """

    version: datasets.Version = datasets.Version(__version__)
    categories: Sequence[str] | None = None
    tasks: Sequence[str] | None = None
    verify: bool = True
    embed: bool = False


class MMRel(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Read a release's archives: a row per question, with the picture's bytes unchanged.

    `base_path` is the release, a folder or `hf://datasets/NS/NAME@REVISION`; by default the one
    that this file belongs to. `datasets` before 4.0 passes the folder of the script.

    Streamed rows hold the bytes of their pictures. For other rows, each picture is written once to
    the folder `mmrel_pictures` of the cache, and the rows hold its path.
    """

    BUILDER_CONFIG_CLASS = MMRelConfig
    BUILDER_CONFIGS = [MMRelConfig(name) for name in CONFIGS]
    DEFAULT_CONFIG_NAME = "all"
    # Rows in memory while the Arrow cache is written; a DALL-E picture has 1.5 MB.
    DEFAULT_WRITER_BATCH_SIZE = 100

    def __init__(self, cache_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        self.release = Release(_release_of_script(kwargs.get("base_path") or HERE))
        kwargs["base_path"] = self.release.root
        cache = os.path.expanduser(str(cache_dir or datasets.config.HF_DATASETS_CACHE))
        self._pictures = os.path.join(os.path.abspath(cache), PICTURES)
        # The rows depend on the release and hold paths, so the key of the cache does too.
        key = f"{kwargs.get('hash')} {self.release.sha256} {self._pictures}"
        kwargs["hash"] = hashlib.sha256(key.encode()).hexdigest()
        config = kwargs.get("config_name")
        if config not in (None, *CONFIGS):
            raise ValueError(f"expected a config among {', '.join(CONFIGS)}, got {config!r}")
        for name, known in (("categories", CATEGORIES), ("tasks", TASKS)):
            values = kwargs.pop(name, None)
            if values is not None:
                chosen = {values} if isinstance(values, str) else set(values)
                if not chosen or not chosen <= set(known):
                    raise ValueError(f"expected {name} among {', '.join(known)}, got {values!r}")
                kwargs[name] = tuple(value for value in known if value in chosen)
        for name, default in (("verify", True), ("embed", False)):
            if kwargs.get(name) is default:  # values that differ from it get a cache of their own
                del kwargs[name]
        super().__init__(cache_dir, *args, **kwargs)
        self.info.features = make_features()  # those from an existing cache are plain ones

    @classmethod
    def get_all_exported_dataset_infos(cls) -> dict[str, datasets.DatasetInfo]:
        """Return nothing: the card beside this file may describe another release."""
        return {}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(DESCRIPTION, CITATION, HOMEPAGE, LICENSE, make_features())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        shards = self.release.archives(self.config.name, self.config.categories or ())
        for name in chain.from_iterable(shards.values()):
            self.release.check_file(name)
        paths = {split: list(map(self.release.path, names)) for split, names in shards.items()}
        with _hub_failures_as_release_errors(self.release.root):
            paths = dl_manager.download(paths)  # all at once, so that they are fetched in parallel
        embed = self.config.embed or dl_manager.is_streaming
        generators = []
        for split, names in shards.items():
            archives = list(zip(names, paths[split], strict=True))
            arguments = {"archives": archives, "embed": embed}
            generators.append(datasets.SplitGenerator(split, arguments))
        return generators

    def _generate_examples(
        self, archives: list[tuple[str, str]], embed: bool
    ) -> Iterator[tuple[str, Record]]:
        validate = make_validator(self.release.schema)
        read = self._read_embedded if embed else self._read_to_files
        for archive, path in archives:
            is_chosen = partial(self._is_chosen, archive, validate)
            for records, image in read(archive, path, is_chosen):
                for record in records:
                    row = {"image": image, **{name: record[name] for name in COLUMNS}}
                    yield record["question_id"], row

    def _read_embedded(
        self, archive: str, path: str, is_chosen: Callable[[Record], bool]
    ) -> Iterator[tuple[list[Record], Record]]:
        """Yield the chosen records and the image with its bytes, for each picture of an archive."""
        for records, picture in self._read(archive, path, is_chosen):
            yield records, {"bytes": picture, "path": records[0]["image_id"]}

    def _read_to_files(
        self, archive: str, path: str, is_chosen: Callable[[Record], bool]
    ) -> Iterator[tuple[list[Record], Record]]:
        """Yield the same with the path of a file in the cache; write the pictures there.

        The folder of an archive has all of its pictures, so that every config can use it.
        """
        folder = self._picture_folder(archive)
        with _fill_folder(folder) as temporary:
            for records, picture in self._read(archive, path):
                image_id = records[0]["image_id"]
                name = _make_file_name(image_id)
                if temporary:
                    _write_new(os.path.join(temporary, name), picture, f"{archive}:{image_id}")
                chosen = [record for record in records if is_chosen(record)]
                if chosen:
                    yield chosen, {"bytes": None, "path": os.path.join(folder, name)}

    def _read(
        self, archive: str, path: str, is_chosen: Callable[[Record], bool] | None = None
    ) -> Iterator[tuple[list[Record], bytes]]:
        """Yield the records and the bytes of each picture of an archive."""
        entry = self.release.files[archive]
        sha256 = entry["sha256"] if self.config.verify else None
        with _hub_failures_as_release_errors(path), open_file(path) as file:
            yield from read_archive(file, archive, entry["size"], is_chosen, sha256)

    def _picture_folder(self, archive: str) -> str:
        name = self.release.files[archive]["sha256"].lower()
        return os.path.join(self._pictures, name if self.config.verify else f"{name}-unverified")

    def _as_dataset(self, *args: Any, **kwargs: Any) -> datasets.Dataset:
        """Return the rows of the cache; write pictures again that are no longer in the cache."""
        rows = super()._as_dataset(*args, **kwargs)
        if self.config.embed:
            return rows
        paths = set()
        for chunk in rows.data.column("image").chunks:
            paths.update(chunk.field("path").unique().to_pylist())
        incomplete = {os.path.dirname(path) for path in paths if not os.path.exists(path)}
        for archive in self.release.files:
            folder = self._picture_folder(archive)
            if folder in incomplete:
                shutil.rmtree(folder, ignore_errors=True)
                for _ in self._generate_examples([(archive, self.release.fetch(archive))], False):
                    pass  # the rows are known
        return rows

    def _is_chosen(
        self, archive: str, validate: Callable[[Any], str | None], record: Record
    ) -> bool:
        """Check a record, and return whether it is of the categories and tasks."""
        _check_record(record, archive, self.release.categories[archive], validate)
        categories, tasks = self.config.categories, self.config.tasks
        is_of_category = not categories or record["category"] in categories
        return is_of_category and (not tasks or record["task"] in tasks)


class Release:
    """A release on disk or on the Hub.

    Args:
        root: a folder (`~` is the home), or `hf://datasets/NS/NAME[@REVISION]`, which is pinned to
            the commit that the revision names now.

    Attributes:
        root: an absolute folder, or `hf://datasets/NS/NAME@COMMIT`.
        version: of the package that built the release.
        note: a sentence about the release, or None.
        files: path -> `sha256` and `size` in bytes, as in checksums.json.
        categories: path -> categories of the questions in the file.
        sha256: of checksums.json, which identifies the content of the release.
        schema: of the records.
    """

    def __init__(self, root: StrPath) -> None:
        self.root = _find_root(os.fspath(root))
        text, schema = self._read("checksums.json"), self._read("schema/record.schema.json")
        self.sha256 = hashlib.sha256(text).hexdigest()
        try:
            index = parse_index(text)
            self.schema: dict[str, Any] = json.loads(schema)
        except (ValueError, RecursionError) as error:
            problem = f"invalid checksums.json or schema/record.schema.json: {error}"
            raise ReleaseError(f"{self.root}: {problem}; fetch the release again") from None
        self.version: str = index["version"]
        self.note: str | None = index["note"]
        self.files: dict[str, dict[str, Any]] = index["files"]
        self.categories: dict[str, set[str]] = {}
        for name, file in self.files.items():
            self.categories[name] = set(file.get("categories", CATEGORIES))

    def _read(self, name: str) -> bytes:
        with open_file(self.fetch(name)) as file:
            return file.read(MAX_INDEX_BYTES)

    def fetch(self, name: str) -> str:
        """Return the local path of a file of the release; download it first if need be."""
        address = parse_hub_address(self.root)
        return _download(*address, name) if address else self.path(name)

    def path(self, name: str) -> str:
        """Return the path of a file of the release; an address if it is only on the Hub."""
        address = parse_hub_address(self.root)
        cached = _find_in_cache(*address, name) if address else None
        return cached if isinstance(cached, str) else f"{self.root}/{name}"

    def check_file(self, name: str) -> None:
        """Check that a file of a local release is a regular one of the size in the index."""
        path = self.path(name)
        if "://" in path:
            return
        size = os.path.getsize(path) if os.path.isfile(path) else "no file"
        if size != self.files[name]["size"]:
            expected = f"a file of {self.files[name]['size']} bytes"
            raise ReleaseError(
                f"{self.root}: {name}: expected {expected}, got {size}; fetch the release again"
            )

    def archives(self, config: str, categories: Sequence[str] = ()) -> dict[str, list[str]]:
        """Return the archives of a config by split, in order, that have some `categories`."""
        wanted = set(categories or CATEGORIES)
        found = _find_archives(self.files)
        by_split = {}
        for split in SPLITS:
            names = []
            for domain in sorted(DOMAINS) if config == "all" else [config]:
                names += found.get((domain, split), [])
            if names:
                chosen = [name for name in names if self.categories[name] & wanted]
                by_split[split] = chosen or names[:1]  # `datasets` needs one for a split
        if not by_split:
            present = ", ".join(sorted({domain for domain, _ in found})) or "none"
            raise ReleaseError(
                f"{self.root} has no archives for {config!r}; domains present: {present}"
            )
        return by_split


def load(
    name: str = "all",
    split: Any = None,
    streaming: bool = False,
    root: StrPath | None = None,
    repo_id: str | None = None,
    revision: str | None = None,
    categories: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    cache_dir: str | None = None,
    num_proc: int | None = None,
    verify: bool = True,
    embed: bool = False,
) -> Any:
    """Load MMRel from the archives of a release, on any version of `datasets` from 3.6 on.

    Args:
        name: `all`, or a domain: `real`, `sdxl`, `dalle`.
        split: what `load_dataset` takes: `train`, `test`, `adversarial`, `train+test`, `all`, a
            `datasets.Split`, a list of these; unless streaming, also slices (`test[:10]`,
            `test[:5%]`) and `ReadInstruction`. None gives all splits by name.
        streaming: read rows when they are needed instead of writing them to the cache first.
        root: folder of the release; by default the release that this file belongs to.
        repo_id: a release on the Hub (`NS/MMRel`) instead of a folder. What a plain load has
            downloaded also loads without a network; what was streamed is not kept.
        revision: branch, tag or commit of `repo_id`; by default its main branch.
        categories: keep only these of `spatial`, `action`, `comparative`.
        tasks: keep only these of `discriminative`, `generative`.
        cache_dir: where `datasets` keeps its cache.
        num_proc: processes that write the cache, at most one per archive.
        verify: compare the sha256 of each archive that is read to its end with checksums.json.
        embed: write the bytes of its picture into each row of the cache. By default each picture is
            a file in the cache, and all of its rows hold the path. A stream always has the bytes.

    Returns:
        A `Dataset` or `IterableDataset`; a list for a list of splits, a dict without `split`.
        There are no rows where no question is of the categories and tasks.

    Raises:
        ReleaseError: the release is missing, broken or out of reach, or lacks what was asked for.
        ValueError: an argument is not one of its values, or does not go with another one.
    """
    if num_proc is not None and (not isinstance(num_proc, int) or num_proc < 1):
        raise ValueError(f"expected num_proc to be a whole number from 1 on, got {num_proc!r}")
    if streaming and num_proc is not None:
        advice = "share a stream over the workers of a DataLoader instead"
        raise ValueError(f"num_proc= is for the plain load; {advice}")
    if streaming and embed:
        raise ValueError("embed= is for the plain load; a stream always has the bytes of pictures")
    folder = find_release(root, repo_id, revision)
    builder = MMRel(
        cache_dir,
        dataset_name="mmrel",
        config_name=name,
        base_path=folder,
        categories=categories,
        tasks=tasks,
        verify=verify,
        embed=embed,
    )
    present = list(builder.release.archives(name))
    if split is None:
        splits = present
    else:
        splits = list(split) if isinstance(split, (list, tuple)) else [split]
    # All splits are parsed first: one that does not exist is an error before anything is read.
    instructions = [_parse_split(part, present, builder) for part in splits]
    if not streaming:
        _prepare(builder, num_proc)
    read = _stream if streaming else _read_cache
    loaded = [read(builder, instruction) for instruction in instructions]
    if split is None:
        by_name = datasets.IterableDatasetDict if streaming else datasets.DatasetDict
        return by_name(zip(present, loaded, strict=True))
    return loaded if isinstance(split, (list, tuple)) else loaded[0]


def _parse_split(split: Any, present: Sequence[str], builder: MMRel) -> datasets.ReadInstruction:
    text = "+".join(present) if str(split) == "all" else str(split)
    try:
        instruction = datasets.ReadInstruction.from_spec(text)
        instruction.to_absolute(dict.fromkeys(present, _ANY_LENGTH))
    except ValueError:
        raise ReleaseError(
            f"{builder.release.root}: expected a split among {', '.join(present)} of "
            f"{builder.config.name!r}, several ('train+test', 'all') or a slice ('test[:10]'), "
            f"got {text[:200]!r}"
        ) from None
    return instruction


def _stream(builder: MMRel, instruction: datasets.ReadInstruction) -> datasets.IterableDataset:
    """Return a stream of whole splits, one after the other."""
    streams = []
    archives = builder.release.archives(builder.config.name)
    wanted = set(builder.config.categories or CATEGORIES)
    for part in instruction.to_absolute(dict.fromkeys(archives, _ANY_LENGTH)):
        if (part.from_, part.to) != (0, _ANY_LENGTH):
            raise ValueError(
                f"expected whole splits such as 'train+test', got {str(instruction)!r}: a stream "
                "has no slices; use .skip(N) and .take(N), or streaming=False"
            )
        if not any(builder.release.categories[name] & wanted for name in archives[part.splitname]):
            _warn_of_no_questions(builder, part.splitname)
        streams.append(builder.as_streaming_dataset(split=part.splitname))
    return streams[0] if len(streams) == 1 else datasets.concatenate_datasets(streams)


def _prepare(builder: MMRel, num_proc: int | None) -> None:
    """Write the rows to the cache of `datasets`, unless they are there."""
    try:
        builder.download_and_prepare(num_proc=num_proc)
    except datasets.exceptions.DatasetGenerationError as error:
        cause = error.__cause__
        if isinstance(cause, (ReleaseError, OSError)):  # such as a full disk
            raise cause from None
        # From a process of num_proc only the text of the traceback arrives.
        match = re.search(r"^(?:[\w.]+\.)?ReleaseError: (.+)$", str(cause), re.MULTILINE)
        if match:
            raise ReleaseError(match[1]) from None
        raise


def _read_cache(builder: MMRel, instruction: datasets.ReadInstruction) -> datasets.Dataset:
    """Return rows from the cache, or no rows, which `datasets` would refuse."""
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    parts = instruction.to_absolute(counts)
    for part in parts:
        if not counts[part.splitname]:
            _warn_of_no_questions(builder, part.splitname)
    if any(part.from_ < part.to for part in parts):
        return builder.as_dataset(split=instruction)
    features, split = make_features(), datasets.Split(str(instruction))
    return datasets.Dataset.from_dict({name: [] for name in features}, features, split=split)


def _warn_of_no_questions(builder: MMRel, split: str) -> None:
    root, config = builder.release.root, builder.config
    kinds = ", ".join((*(config.categories or ()), *(config.tasks or ())))
    _logger.warning("%s: no %s questions of %r in %r", root, kinds, config.name, split)


def make_features() -> datasets.Features:
    """Return the columns of every config and split: an `Image` and strings."""
    columns = {column: datasets.Value("string") for column in COLUMNS}
    return _Features({"image": _Image(), **columns})


class _Image(datasets.Image):  # type: ignore[misc]
    """An `Image` that explains a missing or damaged picture; a plain one once it is pickled."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datasets.Image) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(datasets.Image(self.mode, self.decode))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Image:
        return _Image(self.mode, self.decode)

    def __reduce__(self) -> tuple[Any, ...]:
        return datasets.Image, (self.mode, self.decode)

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """Decode the picture of a row."""
        try:
            return super().decode_example(value, token_per_repo_id)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
            problem = f"is damaged ({error}); fetch the release again"
            if isinstance(error, FileNotFoundError):
                problem = "was moved or deleted; load the dataset again, which writes it again"
            raise ReleaseError(f"picture {value['path']}: {problem}") from None


class _Features(datasets.Features):  # type: ignore[misc]
    """Features that pass on rows that are encoded already.

    `datasets` takes longer to inspect the values of a row than to read it, and takes a file at
    `image_id` in the current folder for the picture.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _Features, (dict(self),)

    def encode_example(self, example: Record) -> Record:
        """Encode a row unless its values are bytes of a picture and strings."""
        has_all = example.keys() == self.keys()
        if has_all and all(_is_encoded(example[name], self[name]) for name in self):
            return example
        return super().encode_example(example)  # type: ignore[no-any-return]


def _is_encoded(value: Any, feature: Any) -> bool:
    if isinstance(feature, datasets.Image):
        if type(value) is not dict:
            return False
        data = value.get("bytes")
        return type(data) is bytes or (data is None and type(value.get("path")) is str)
    is_text = type(feature) is datasets.Value and feature.dtype == "string"
    return is_text and (value is None or type(value) is str)


def parse_index(text: bytes) -> dict[str, Any]:
    """Parse checksums.json; anything else is a ReleaseError.

    Returns:
        `version`, `note` (text or None), and `files`: path -> `sha256`, `size` in bytes, and of
        archives `categories`.
    """
    try:
        index: dict[str, Any] = json.loads(text)
        version, note = index["version"], index["note"]
        if not isinstance(version, str) or not isinstance(note, (str, type(None))):
            raise ValueError(f"version {version!a:.80} and note {note!a:.80}, which are not text")
        for name, file in index["files"].items():
            _check_entry(name, file)
        for names in _find_archives(index["files"]).values():
            _check_numbers(names)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReleaseError(
            "expected version, note, and the sha256 and size of each file, "
            f"got {type(error).__name__}: {error}"
        ) from None
    return index


def _check_entry(name: str, file: dict[str, Any]) -> None:
    sha256, size = file["sha256"], file["size"]
    if {"", ".", ".."} & {*name.split("/")} or _NO_PATH.search(name):
        raise ValueError(f"{name[:200]!a}, which is no path inside a release")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256) or type(size) is not int or size < 0:
        raise ValueError(f"sha256 {sha256[:80]!a} and size {size!a:.80} of {name[:200]!r}")
    if name.endswith(".tar") and not _ARCHIVE.fullmatch(name):
        expected = "data/<domain>/<split>-00000.tar of a known domain and split"
        raise ValueError(f"{name[:200]!r}, expected {expected}")
    categories = file.get("categories", list(CATEGORIES))
    if not isinstance(categories, list) or not categories or set(categories) - set(CATEGORIES):
        raise ValueError(f"categories {categories!a:.80} of {name[:200]!r}")


def _find_archives(files: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Return the sorted archives by domain and split; ignore other files."""
    archives: dict[tuple[str, str], list[str]] = {}
    for name in sorted(files):
        match = _ARCHIVE.fullmatch(name)
        if match:
            archives.setdefault((match[1], match[2]), []).append(name)
    return archives


def _check_numbers(names: list[str]) -> None:
    """Check that the archives of a split are numbered from 0 on without a gap."""
    for number, name in enumerate(names):
        if not name.endswith(f"-{number:05d}.tar"):
            raise ValueError(f"{name!r} without the archive number {number} of its split")


def make_validator(schema: dict[str, Any]) -> Callable[[Any], str | None]:
    """Return a function that returns what is wrong with a record (`field: message`), or None.

    jsonschema-rs is used where it is installed, else jsonschema; they give the same verdicts.
    """
    try:
        jsonschema, path_of = importlib.import_module("jsonschema_rs"), "instance_path"
    except ImportError:
        jsonschema, path_of = importlib.import_module("jsonschema"), "absolute_path"
    validator = jsonschema.Draft202012Validator(schema)

    def validate(record: Any) -> str | None:
        if validator.is_valid(record):
            return None
        problems = []
        for error in validator.iter_errors(record):
            field = "/".join(map(str, getattr(error, path_of)))
            problems.append((field, error.message[:300]))
        field, message = min(problems)
        return f"field {field}: {message}"

    return validate


def read_archive(
    file: BinaryIO | HashedFile,
    name: str,
    size: int,
    is_chosen: Callable[[Record], bool] | None = None,
    sha256: str | None = None,
) -> Iterator[tuple[list[Record], bytes]]:
    """Yield the records and the bytes of each picture of a WebDataset shard, in constant memory.

    Regular files and PAX long names are supported; anything else is a ReleaseError.

    Args:
        file: the archive; it is read once, forwards.
        name: the archive's name in errors.
        size: bytes of the whole archive.
        is_chosen: chooses records; a picture without any is skipped, unread where `file` can seek
            and nothing is compared. None chooses all.
        sha256: of the whole archive, which is then read to its end and compared. None skips both.
    """
    if sha256 is None:
        yield from _read_samples(file, name, size, is_chosen)
        return
    with HashedFile(file) as hashed:
        yield from _read_samples(hashed, name, size, is_chosen)
        got = hashed.compute_sha256()
    if got != sha256.lower():
        raise ReleaseError(f"{name}: expected sha256 {sha256}, got {got}; fetch the release again")


def _read_samples(
    file: Any, name: str, size: int, is_chosen: Callable[[Record], bool] | None
) -> Iterator[tuple[list[Record], bytes]]:
    while True:
        header = _read_header(file, name, MAX_RECORDS_BYTES)
        if header is None:
            break
        member, length = header
        records = _read_records(file, f"{name}:{member}", length)
        picture, length = _read_header(file, name, MAX_PICTURE_BYTES) or (None, 0)
        if picture is None or any(record.get("image_id") != picture for record in records):
            expected, got = records[0].get("image_id"), picture or "the end"
            raise ReleaseError(
                f"{name}:{member}: expected the picture {expected!r} next, got {got!r}"
            )
        chosen = records if is_chosen is None else [*filter(is_chosen, records)]
        if chosen:
            yield chosen, _read(file, f"{name}:{picture}", length)
        else:
            _skip(file, f"{name}:{picture}", length)
    _check_end(file, name, size)


def _check_end(file: Any, name: str, size: int) -> None:
    """Check what follows the first block of zeros: zeros alone, up to the size of the archive."""
    position = file.tell()
    end = position + TAR_BLOCK
    end += -end % TAR_RECORD
    rest = file.read(end - position + 1)
    if any(rest):
        raise ReleaseError(
            f"{name}: damaged before byte {position}: expected the next picture or the end, got "
            "zeros before other bytes; fetch the release again"
        )
    if not end == position + len(rest) == size:
        problem = f"expected {size} bytes, the archive ends at {position + len(rest)}, not at {end}"
        raise ReleaseError(f"{name}: {problem}; fetch the release again")


class HashedFile:
    """An open binary file that is hashed in a thread while it is read forwards."""

    def __init__(self, file: BinaryIO | HashedFile) -> None:
        self._file = file
        self._pool = ThreadPoolExecutor(1)  # one worker hashes the parts in order
        self._digest = hashlib.sha256()
        self._parts: list[bytes] = []  # that are not passed to the thread yet
        self._size = 0  # of the parts
        self._tasks: deque[Future[None]] = deque()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """Read bytes; wait for the hash where it is far behind, so that memory stays constant."""
        data = self._file.read(size)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= HASH_BYTES:
            self._hash_parts()
        return data

    def seek(self, offset: int, whence: int) -> None:
        """Refuse to skip bytes, which belong to the hash."""
        raise io.UnsupportedOperation("a hashed file is read to its end")

    def compute_sha256(self) -> str:
        """Return the hash of what was read."""
        self._hash_parts()
        for task in self._tasks:
            task.result()
        return self._digest.hexdigest()

    def _hash_parts(self) -> None:
        self._tasks.append(self._pool.submit(self._update, self._parts))
        self._parts, self._size = [], 0
        if len(self._tasks) > HASH_TASKS:
            self._tasks.popleft().result()

    def _update(self, parts: list[bytes]) -> None:
        for part in parts:
            self._digest.update(part)


@contextlib.contextmanager
def _fill_folder(folder: str) -> Iterator[str | None]:
    """Yield a folder to fill, which becomes `folder` if the block succeeds; None if that exists.

    One process fills it, and others wait. A killed one leaves what the next one deletes.
    """
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not os.path.isdir(folder):
            temporary = f"{folder}.incomplete"
            shutil.rmtree(temporary, ignore_errors=True)
            os.mkdir(temporary)
            try:
                yield temporary
                os.rename(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return
    yield None


def _make_file_name(image_id: str) -> str:
    """Return a name that is safe and unique on every file system."""
    suffix = re.search(r"\.[A-Za-z]{1,5}\Z", image_id)
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:32] + (suffix[0] if suffix else "")


def _write_new(path: str, data: bytes, where: str) -> None:
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        raise ReleaseError(f"{where}: expected each picture once, got this one twice") from None


def open_file(path: str) -> BinaryIO:
    """Open a local file of a release, or one at an address that fsspec knows."""
    if "://" not in path:
        if not os.path.isfile(path):
            raise ReleaseError(
                f"{path}: expected a regular file, got none; fetch the release again"
            )
        return open(path, "rb")
    system, path = fsspec.core.url_to_fs(path)
    # Block size 0 reads a file of the Hub in one request; the default is requests of 5 MB.
    block_size = 0 if "hf" in system.protocol else None
    return system.open(path, "rb", block_size=block_size)  # type: ignore[no-any-return]


def _read_header(
    file: BinaryIO, archive: str, limit: int, long_name: str = ""
) -> tuple[str, int] | None:
    """Read the header of a member of at most `limit` bytes; return its name and size.

    Return None at the end of the archive. `long_name` is the name in a PAX header before this one.
    """
    block = _read(file, archive, TAR_BLOCK)
    if not long_name and not any(block):
        return None
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if block[257:263] != b"ustar\0" or block[148:154] != b"%06o" % checksum:
        raise ReleaseError(f"{archive}: damaged before byte {file.tell()}; fetch the release again")
    kind, digits = block[156:157], block[124:135]
    size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
    if kind == b"x" and not long_name and 0 < size <= MAX_RECORDS_BYTES:
        match = re.fullmatch(rb"%d path=([^\n\0]+)\n" % size, _read(file, archive, size))
        long_name = match[1].decode(errors="replace") if match else ascii(block[:100])
        return _read_header(file, archive, limit, long_name)
    name = long_name or block[:100].rstrip(b"\0").decode(errors="replace")
    if kind != b"0" or not 0 <= size <= limit:
        raise ReleaseError(
            f"{archive}:{name}: expected a regular file of at most {limit} bytes, "
            f"got {size} bytes of type {kind!r}"
        )
    return name, size


def _read(file: BinaryIO, where: str, size: int) -> bytes:
    """Read the content of a member, and its padding."""
    data = file.read(size)
    padding = -size % TAR_BLOCK
    got = len(data) + len(file.read(padding))
    if got < size + padding:
        problem = f"cut off after {got} of {size + padding} bytes"
        raise ReleaseError(f"{where}: {problem}; fetch the release again")
    return data


def _skip(file: BinaryIO, where: str, size: int) -> None:
    try:
        file.seek(size + -size % TAR_BLOCK, os.SEEK_CUR)
    except ValueError:  # a stream cannot seek
        _read(file, where, size)


def _read_records(file: BinaryIO, where: str, size: int) -> list[Record]:
    data = _read(file, where, size)
    try:
        records = json.loads(data)
    except (ValueError, RecursionError):
        records = None
    is_list = isinstance(records, list) and len(records) > 0
    if not is_list or not all(isinstance(record, dict) for record in records):
        expected = "a JSON array of records before each picture"
        raise ReleaseError(f"{where}: expected {expected}, got {ascii(data[:60])}")
    return records  # type: ignore[no-any-return]


def _check_record(
    record: Record, archive: str, categories: set[str], validate: Callable[[Any], str | None]
) -> None:
    """Check a record against the schema, and against its archive and the archive's entry."""
    problem = validate(record)
    domain = archive.split("/")[1]
    if not problem and record["domain"] != domain:
        problem = f"field domain: expected {domain!r}, got {record['domain']!r}"
    if not problem and record["category"] not in categories:
        listed = ", ".join(sorted(categories))
        problem = f"field category: expected {listed} as in the index, got {record['category']!r}"
    if problem:
        where = f"{archive}:{record.get('image_id')}"
        raise ReleaseError(f"{where}: question {record.get('question_id')!r}, {problem}")


def find_release(
    root: StrPath | None = None, repo_id: str | None = None, revision: str | None = None
) -> str:
    """Return the root of the release that the arguments name, as `load` and `Release` take them."""
    if (root is not None and repo_id is not None) or (revision is not None and repo_id is None):
        raise ReleaseError(
            "expected root= (--root), or repo_id= (--repo-id) with or without its revision= "
            "(--revision); leave out what does not belong"
        )
    if repo_id is None:
        return _find_root(_release_of_script(HERE) if root is None else os.fspath(root))
    if not re.fullmatch(_REPO_ID, repo_id):
        raise ReleaseError(f"expected repo_id to be NS/NAME, got {repo_id[:200]!r}")
    return _find_root(f"{HUB}{repo_id}" if revision is None else f"{HUB}{repo_id}@{revision}")


def parse_hub_address(address: str) -> tuple[str, str | None] | None:
    """Return repository and revision of `hf://datasets/NS/NAME[@REVISION]`, None of others.

    >>> parse_hub_address("hf://datasets/NS/MMRel@v1.0.0")
    ('NS/MMRel', 'v1.0.0')
    """
    match = _HUB_ADDRESS.fullmatch(address.rstrip("/"))
    if not match or ".." in unquote(address):
        return None
    return match[1], unquote(match[2]) if match[2] else None


def _release_of_script(folder: str) -> str:
    """Return the release above the script's folder `loader/`, the installed sample, or `folder`."""
    above, name = os.path.split(os.path.abspath(folder))
    if name == "loader" and os.path.isfile(os.path.join(folder, "mmrel.py")):
        return above
    sample = os.path.join(folder, "mmrel_kit", "sample")
    return sample if os.path.isdir(sample) else folder


def _find_root(root: str) -> str:
    """Return the release at `root`: an absolute folder, or an address pinned to a commit."""
    if root.startswith("hf://"):
        address = parse_hub_address(root)
        if address is None:
            expected = f"{HUB}NS/NAME or {HUB}NS/NAME@REVISION"
            raise ReleaseError(f"expected {expected}, got {root[:200]!r}")
        # The Hub's cache has a folder for each commit; all files are read from this one.
        commit = os.path.basename(os.path.dirname(_download(*address, "checksums.json")))
        return f"{HUB}{address[0]}@{commit}"
    if "://" in root:
        return root.rstrip("/")
    folder = os.path.abspath(os.path.expanduser(root))
    if root and os.path.isfile(os.path.join(folder, "checksums.json")):
        return folder
    raise ReleaseError(
        f"expected a release, a folder with checksums.json and data/, got {root!r}; check its "
        "path, or name the folder of one (root=, --root) or its repository on the Hub (repo_id=, "
        "--repo-id)"
    )


def _find_in_cache(repo_id: str, revision: str | None, name: str) -> Any:
    return hub.try_to_load_from_cache(repo_id, name, revision=revision, repo_type="dataset")


def _download(repo_id: str, revision: str | None, name: str) -> str:
    """Return the path of a file of a dataset repository in the Hub's cache."""
    repository = f"{repo_id}@{revision}" if revision else repo_id
    with _hub_failures_as_release_errors(f"{HUB}{repository}/{name}"):
        try:
            if _find_in_cache(repo_id, revision, name) is None:
                # Without a network this fails at once; a download retries for half a minute.
                hub.HfApi().dataset_info(repo_id, revision=revision, timeout=CONNECT_SECONDS)
            return hub.hf_hub_download(repo_id, name, revision=revision, repo_type="dataset")
        except errors.HFValidationError:
            problem = f"expected repo_id to be NS/NAME, got {repo_id[:200]!r}"
        except errors.RepositoryNotFoundError:
            advice = "check the name, or run 'hf auth login'"
            problem = f"no dataset {repo_id!r} on the Hub that you may read; {advice}"
        except errors.RevisionNotFoundError:
            problem = f"{repo_id} has no branch, tag or commit {revision!r}; check revision="
        except errors.LocalEntryNotFoundError:  # an EntryNotFoundError, but there is no network
            raise
        except errors.EntryNotFoundError:
            advice = "check repo_id= and revision="
            problem = f"{repository} is no release of MMRel: it has no {name}; {advice}"
    raise ReleaseError(problem)


@contextlib.contextmanager
def _hub_failures_as_release_errors(path: str) -> Iterator[None]:
    """Raise what the Hub's client raises about an address as a ReleaseError of one line."""
    try:
        yield
    except _HUB_FAILURES as error:
        if "://" not in path:
            raise
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
        reason = re.sub(r"\?[^\s'\"]+", "?…", line)[:300]  # a query may hold a signature
        problem = f"was not downloaded before and cannot be read now ({reason})"
        raise ReleaseError(f"{path} {problem}; check the network and retry") from error
