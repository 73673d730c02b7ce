"""Write a small folder in the layout of a release, for the tests of publishing.

`upload.py build` on the drawn sample takes its place wherever a test does not ask for a size or a number of files.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

COLUMNS = (
    "question_id image_id domain category task subject relation object question instruction answer style pair_id source"
).split()
SPLITS = {"real": ("train", "test", "adversarial"), "dalle": ("test",), "sdxl": ("test",)}
FEATURES = {**{name: {"dtype": "string", "_type": "Value"} for name in COLUMNS}, "image": {"_type": "Image"}}
CARD = """---
license: cc-by-4.0
configs:
{configs}---
# MMRel {version}

A drawn sample.
"""


def make_release(root: Path, version: str = "1.0.0", pictures: int = 3, seed: int = 0, extra: int = 0) -> Path:
    """Write a release with `pictures` per domain and split, and `extra` small further archives; return its folder."""
    drawn, counts = random.Random(seed), {}
    for domain, splits in SPLITS.items():
        for split in splits:
            rows = [_record(domain, split, number, drawn) for number in range(pictures)]
            images = [_png(drawn) for _ in rows]
            _write_split(root / "data" / domain, split, rows, images)
            counts[domain, split] = (len(rows), sum(map(len, images)))
    for number in range(extra):
        _write(root / f"data/extra/part-{number:05}.tar", drawn.randbytes(900))
    _write(root / "README.md", CARD.format(configs=_configs(), version=version))
    _write(root / "dataset_infos.json", json.dumps(_infos(counts), indent=1))
    _write(root / "schema" / "record.schema.json", "{}")
    _write(root / "loader" / "mmrel.py", '"""Loads MMRel."""\n')
    _write(root / "LICENSE", "CC BY 4.0\n")
    return seal(root, version)


def seal(root: Path, version: str = "1.0.0") -> Path:
    """Write checksums.json for the files as they are."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "checksums.json")
    entries = {path.relative_to(root).as_posix(): _entry(path) for path in files}
    manifest = {"name": "mmrel", "version": version, "note": None, "written_by": {}, "files": entries}
    _write(root / "checksums.json", json.dumps(manifest, indent=1))
    return root


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": path.stat().st_size}


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _record(domain: str, split: str, number: int, drawn: random.Random) -> dict[str, Any]:
    name = f"{domain}-{split}-{number:05}"
    texts = {name: f"{name} {drawn.random()}" for name in COLUMNS}
    known = {"domain": domain, "category": "spatial", "task": "discriminative", "answer": "yes", "style": None}
    return {**texts, **known, "question_id": name, "image_id": f"{domain}/{name}.png", "pair_id": None}


def _png(drawn: random.Random, side: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = b"".join(b"\0" + drawn.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _write_split(folder: Path, split: str, rows: list[dict[str, Any]], images: list[bytes]) -> None:
    """The three faces of a split: records, archive, table."""
    _write(folder / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for row, image in zip(rows, images, strict=True):
            stem = row["image_id"].rsplit(".", 1)[0]
            for name, data in ((f"{stem}.json", json.dumps([row]).encode()), (row["image_id"], image)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    _write(folder / f"{split}-00000.tar", archive.getvalue())
    columns: dict[str, Any] = {name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS}
    pictures = [{"bytes": data, "path": row["image_id"]} for row, data in zip(rows, images, strict=True)]
    columns["image"] = pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=2)


def _configs() -> str:
    def block(name: str, splits: tuple[str, ...], folder: str, default: str = "") -> str:
        files = "".join(f"  - split: {split}\n    path: data/{folder}/{split}-*.parquet\n" for split in splits)
        return f"- config_name: {name}\n{default}  data_files:\n{files}"

    every = block("all", SPLITS["real"], "*", "  default: true\n")
    return every + "".join(block(domain, splits, domain) for domain, splits in SPLITS.items())


def _infos(counts: dict[tuple[str, str], tuple[int, int]]) -> dict[str, Any]:
    """dataset_infos.json: features and sizes of every config, sums for `all`."""
    infos: dict[str, Any] = {}
    for (domain, split), (rows, size) in counts.items():
        for config in (domain, "all"):
            info = infos.setdefault(config, {"features": FEATURES, "splits": {}, "config_name": config})
            entry = info["splits"].setdefault(split, {"name": split, "num_bytes": 0, "num_examples": 0})
            entry["num_bytes"] += size
            entry["num_examples"] += rows
    return infos
