# SPDX-License-Identifier: Apache-2.0
"""Write the card of a release and dataset_infos.json; the template is this project's README.md.

The card is the README with new YAML and new generated blocks (`<!-- counts:begin -->` …
`<!-- counts:end -->`), without the parts about the source repository (`<!-- project:begin -->` …
`<!-- project:end -->`).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.card.hub_eval import describe_evaluation, make_config
from mmrel_kit.card.published import make_published_blocks
from mmrel_kit.card.stats import SplitStats, describe_features, merge_stats
from mmrel_kit.files import PROJECT, InputError, escape_markdown, format_markdown
from mmrel_kit.pictures.validate import check_picture

TEMPLATE = PROJECT / "README.md"
_FRONT_MATTER = re.compile(r"\A---\n(.*?)---\n", re.DOTALL)
_BLOCK = re.compile(
    r"<!-- (?P<name>(?!project)\w+):begin -->(?P<content>.*?)<!-- (?P=name):end -->", re.DOTALL
)
_PROJECT = re.compile(r"<!-- project:begin -->.*?<!-- project:end -->\n*", re.DOTALL)
# The Hub's size categories, each with the number of rows below which it applies.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "n>1M"

# The address of the source repository. It is not published yet: set it here, and nowhere else.
SOURCE = "ADDRESS-OF-THE-SOURCE"
INSTALL = f"""\
The source repository has no public address yet. Replace `{SOURCE}` with its address.

```bash
git clone {SOURCE} MMRel && pip install ./MMRel
```"""
EXAMPLE = "data/example.jpg"  # the picture of the row that the card shows
EXAMPLE_SIDE = 384  # pixels, limit of its longer side
EXAMPLE_COLUMNS = (
    *("question", "instruction", "answer", "task", "category"),
    *("subject", "relation", "object", "domain", "image_id"),
)


class CardContent(NamedTuple):
    """The generated parts of a card: its YAML, and its blocks by name."""

    front_matter: str
    blocks: dict[str, str]


# --- Features, splits and sizes ---


def make_config_infos(stats: list[SplitStats]) -> dict[str, dict[str, Any]]:
    """Return the splits and sizes of each config, for dataset_infos.json and the card."""
    infos = {}
    for config in mmrel.CONFIGS:
        chosen = [item for item in stats if config in ("all", item.domain)]
        if not chosen:
            continue
        splits: dict[str, dict[str, Any]] = {}
        for split in mmrel.SPLITS:
            of_split = [item for item in chosen if item.split == split]
            if of_split:
                splits[split] = {
                    "name": split,
                    "num_bytes": sum(item.num_bytes for item in of_split),
                    "num_examples": sum(item.rows for item in of_split),
                }
        infos[config] = {
            "splits": splits,
            "download_size": sum(item.table_bytes for item in chosen),
            "dataset_size": sum(item.num_bytes for item in chosen),
        }
    return infos


def make_dataset_infos(stats: list[SplitStats]) -> str:
    """Return the text of dataset_infos.json."""
    infos = {}
    for config, info in make_config_infos(stats).items():
        infos[config] = {
            "description": mmrel.DESCRIPTION,
            "citation": mmrel.CITATION,
            "homepage": mmrel.HOMEPAGE,
            "license": mmrel.LICENSE,
            "features": describe_features(),
            "builder_name": "parquet",
            "dataset_name": "mmrel",
            "config_name": config,
            **info,
        }
    return json.dumps(infos, indent=2) + "\n"


def make_front_matter(stats: list[SplitStats], hub_eval: Sequence[str] = ()) -> dict[str, Any]:
    """Return the YAML at the top of the card, which the Hub shows and `load_dataset` obeys.

    `hub_eval` has the splits of the config for the Hub's own evaluation; it is empty without one.
    """
    infos = make_config_infos(stats)
    configs = [_describe_files(config, list(info["splits"])) for config, info in infos.items()]
    return {
        "pretty_name": "MMRel",
        "license": mmrel.LICENSE,
        "language": ["en"],
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "size_categories": [_name_size(sum(item.rows for item in stats))],
        "tags": ["relations", "hallucination", "multimodal", "benchmark"],
        "configs": configs + make_config(hub_eval),
        "dataset_info": [_describe_config(config, info) for config, info in infos.items()],
    }


def _name_size(rows: int) -> str:
    for limit, name in _SIZES:
        if rows < limit:
            return name
    return _LARGEST


def _describe_files(config: str, splits: list[str]) -> dict[str, Any]:
    """Return the entry of a config under `configs`: its Parquet files, one glob per split."""
    entry: dict[str, Any] = {"config_name": config}
    folder = config
    if config == "all":
        entry["default"] = True
        folder = "*"
    entry["data_files"] = [
        {"split": split, "path": f"data/{folder}/{split}-*.parquet"} for split in splits
    ]
    return entry


def _describe_config(config: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a config under `dataset_info`: its features, splits and sizes."""
    # Each config needs its own list: YAML would write a shared list once and refer to it.
    features = [{"name": "image", "dtype": "image"}]
    features += [{"name": name, "dtype": "string"} for name in mmrel.COLUMNS]
    return {
        "config_name": config,
        "features": features,
        "splits": list(info["splits"].values()),
        "download_size": info["download_size"],
        "dataset_size": info["dataset_size"],
    }


# --- Blocks ---


def make_counts_table(stats: list[SplitStats]) -> str:
    """Return a Markdown table of pictures and questions per domain and split."""
    heads = ["domain", "split", "pictures", "questions", *mmrel.CATEGORIES, "yes/no", "open-ended"]
    rows = [heads]
    for item in [*stats, *_make_total(stats)]:
        numbers = [item.pictures, item.rows]
        for kind in (*mmrel.CATEGORIES, *mmrel.TASKS):
            numbers.append(_count_questions(item, kind))
        rows.append([item.domain, item.split, *(f"{number:,}" for number in numbers)])
    return format_markdown(rows, "ll" + "r" * (len(heads) - 2))


def make_row(record: dict[str, Any]) -> str:
    """Return the example row of the card, below its picture."""
    picture = f"![The picture of the question below]({EXAMPLE})"
    rows = [("column", "value")]
    for name in EXAMPLE_COLUMNS:
        if record[name] is not None:
            rows.append((f"`{name}`", escape_markdown(record[name])))
    return f"{picture}\n\n{format_markdown(rows, 'll')}"


def make_example_picture(data: bytes, where: str) -> bytes:
    """Return a picture as a small JPEG; `where` names it in errors.

    Raises:
        InputError: the picture is damaged.
    """
    picture = check_picture(data, where).convert("RGB")
    picture.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _count_questions(item: SplitStats, category_or_task: str) -> int:
    return sum(count for kind, count in item.counts.items() if category_or_task in kind.split())


def _make_total(stats: list[SplitStats]) -> list[SplitStats]:
    """Return the sum of all domains and splits as one item; empty if there are no splits."""
    total = merge_stats(item._replace(domain="all", split=mmrel.SPLITS[0]) for item in stats)
    return [item._replace(split="") for item in total]


# --- The card ---


def make_card_content(
    stats: list[SplitStats],
    note: str | None,
    other_blocks: dict[str, str],
    hub_eval: Sequence[str] = (),
) -> CardContent:
    """Return the generated parts of a card.

    Args:
        stats: of all splits of the release.
        note: a sentence about the release, shown above everything else.
        other_blocks: blocks made elsewhere: `audit` and `sizes`, and `row` (see `make_row`).
        hub_eval: splits of the config for the Hub's own evaluation; empty without one.
    """
    import yaml

    front_matter = make_front_matter(stats, hub_eval)
    blocks = {
        "note": f"> {note}" if note else "",
        "version": f"Version {mmrel.__version__}.",
        "install": INSTALL,
        "counts": make_counts_table(stats),
        **make_published_blocks(),
        "evaluation": describe_evaluation(hub_eval),
    }
    text = yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True, width=120)
    return CardContent(text, blocks | other_blocks)


def read_card(card: str) -> CardContent:
    """Return the generated parts of a card."""
    match = _FRONT_MATTER.match(card)
    blocks = {block["name"]: block["content"].strip("\n") for block in _BLOCK.finditer(card)}
    return CardContent(match[1] if match else "", blocks)


def render_card(template: str, content: CardContent, keep_project: bool = False) -> str:
    """Return a template, or a card made from it, with new YAML and new generated blocks.

    `keep_project` keeps the parts about the source repository.

    Raises:
        InputError: template and content have different blocks.
    """

    def make_block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name}:begin -->\n{content.blocks[name]}\n<!-- {name}:end -->"

    body = _FRONT_MATTER.sub("", template)
    if not keep_project:
        body = _PROJECT.sub("", body)
    names = [match["name"] for match in _BLOCK.finditer(body)]
    if sorted(names) != sorted(content.blocks):
        expected, got = ", ".join(content.blocks), ", ".join(names)
        raise InputError(f"{TEMPLATE}: expected the blocks {expected}, got {got}")
    return f"---\n{content.front_matter}---\n{_BLOCK.sub(make_block, body)}"
