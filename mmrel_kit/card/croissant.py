# SPDX-License-Identifier: Apache-2.0
"""Describe a release in Croissant 1.1 (croissant.json): every data file, every config.

Each config is a record set that is read from its Parquet files; the field `split` comes from the
file name. Paths are relative to croissant.json, so it describes a clone as well as a repository on
the Hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import mmrel
from mmrel_kit.card.stats import SplitStats

NAME = "croissant.json"
CC_BY = "https://creativecommons.org/licenses/by/4.0/"
APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
# By domain: licences of its files, that of the annotations first, and a phrase for its pictures.
RIGHTS = {
    "real": ((CC_BY,), "photographs of Visual Genome, which have origins and terms of their own"),
    "sdxl": ((CC_BY, APACHE), "pictures of SPEC, made with SDXL (Apache-2.0)"),
    "dalle": ((CC_BY,), "pictures made with DALL-E 3"),
}
FORMATS = {
    ".jsonl": ("application/jsonlines", "Records"),
    ".tar": ("application/x-tar", "WebDataset shard"),
    ".parquet": ("application/x-parquet", "Table of questions, pictures embedded"),
}
SPLIT_TYPES = {"train": "cr:TrainingSplit", "test": "cr:TestSplit", "adversarial": "cr:TestSplit"}
RESPONSIBLE = {
    "dataCollection": (
        "Real pictures and their relations were chosen from Visual Genome, SDXL pictures from "
        "SPEC; DALL-E pictures were generated for triplets. Relations were proposed by a "
        "multimodal model."
    ),
    "dataAnnotationProtocol": (
        "People confirmed or corrected every proposed triplet (SemiDC). Negative questions swap "
        "subject and object, or ask for another relation."
    ),
    "dataBiases": [
        "Objects and relations are those that are frequent in Visual Genome and SPEC. Yes and no "
        "are not balanced in every cell: the card's audit counts them."
    ],
    "dataLimitations": [
        "A question names one relation of two objects; other true relations are not listed. "
        "The questions are in English only."
    ],
    "dataUseCases": [
        "Evaluation of multimodal models on relations between objects; "
        "fine-tuning on the train split."
    ],
    "personalSensitiveInformation": [
        "Photographs show people as Visual Genome has them; nobody is named."
    ],
}  # fmt: skip
# All words of Croissant's own context, because readers warn about any other context.
_CR_WORDS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty"),
    *("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "recordSet", "references"),
    *("regex", "repeated", "replace", "samplingRate", "separator", "source"),
    *("subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{word: f"cr:{word}" for word in _CR_WORDS},
}


def make_croissant(
    stats: list[SplitStats], files: Mapping[str, Mapping[str, Any]], note: str | None
) -> str:
    """Return the text of croissant.json; of `files`, only data files are described."""
    domains = sorted({item.domain for item in stats})
    splits = sorted({item.split for item in stats}, key=mmrel.SPLITS.index)
    configs = [config for config in mmrel.CONFIGS if config in ("all", *domains)]
    licences = {licence for domain in domains for licence in RIGHTS[domain][0]}
    # data/<domain>/<file>, not data/example.jpg, the picture of the card.
    data_files = [name for name in sorted(files) if re.match("data/.+/", name)]
    description = f"{note} {mmrel.DESCRIPTION}" if note else mmrel.DESCRIPTION
    value = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": "MMRel",
        "description": description,
        "url": mmrel.HOMEPAGE,
        "version": mmrel.__version__,
        "license": sorted(licences, reverse=True),
        "citeAs": mmrel.CITATION,
        "keywords": ["relations", "hallucination", "multimodal", "benchmark"],
        **{f"rai:{name}": text for name, text in RESPONSIBLE.items()},
        "distribution": [
            *(_make_file_object(name, files[name]) for name in data_files),
            *(_make_file_set(config) for config in configs),
        ],
        "recordSet": [_make_split_set(splits), *(_make_record_set(config) for config in configs)],
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _make_file_object(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    _, domain, file = name.split("/")
    encoding, kind = FORMATS[file[file.rindex(".") :]]
    licences, pictures = RIGHTS[domain]
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": f"{kind}; {pictures}.",
        "contentUrl": name,
        "contentSize": f"{entry['size']} B",
        "encodingFormat": encoding,
        "sha256": entry["sha256"],
        "license": list(licences),
    }


def _make_file_set(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{config}-tables",
        "name": f"{config}-tables",
        "description": f"Tables of the config {config}.",
        "encodingFormat": FORMATS[".parquet"][0],
        "includes": f"data/{'*' if config == 'all' else config}/*.parquet",
    }


def _make_split_set(splits: list[str]) -> dict[str, Any]:
    rows = [{"splits/name": split, "splits/type": SPLIT_TYPES[split]} for split in splits]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits; adversarial asks about unusual relations.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            _make_field("splits", "name", "sc:Text"),
            _make_field("splits", "type", "sc:URL"),
        ],
        "data": rows,
    }


def _make_record_set(config: str) -> dict[str, Any]:
    def extract(source: dict[str, str], **transform: dict[str, str]) -> dict[str, Any]:
        return {"fileSet": {"@id": f"{config}-tables"}, "extract": source, **transform}

    names = "|".join(mmrel.SPLITS)
    split = extract({"fileProperty": "filename"}, transform={"regex": f"^({names})-"})
    picture = extract({"column": "image"}, transform={"jsonPath": "bytes"})
    columns = []
    for column in mmrel.COLUMNS:
        columns.append(_make_field(config, column, "sc:Text", extract({"column": column})))
    kind = "" if config == "all" else f", of the domain {config}: {RIGHTS[config][1]}"
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"A question about a picture in each record{kind}.",
        "field": [
            _make_field(config, "split", "sc:Text", split),
            _make_field(config, "image", "sc:ImageObject", picture),
            *columns,
        ],
    }


def _make_field(
    record_set: str, name: str, data_type: str, source: dict[str, Any] | None = None
) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "dataType": data_type,
    }
    if source:
        field["source"] = source
    return field
