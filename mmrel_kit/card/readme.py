# SPDX-License-Identifier: Apache-2.0
"""Write the card of a release and dataset_infos.json; the template is this project's README.md.

The card is the README with its YAML and its generated blocks (`<!-- counts:begin -->` …
`<!-- counts:end -->`) made anew, and without what is about the source repository alone
(`<!-- project:begin -->` … `<!-- project:end -->`).
"""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit.card.hub_eval import describe_evaluation, make_config
from mmrel_kit.card.published import make_published_blocks
from mmrel_kit.card.stats import describe_features, merge_stats
from mmrel_kit.files import PROJECT, InputError, escape_markdown
from mmrel_kit.pictures.whole import check_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmrel_kit.card.stats import SplitStats

TEMPLATE = PROJECT / "README.md"
_FRONT = re.compile(r"\A---\n(.*?)---\n", re.DOTALL)
_BLOCK = re.compile(
    r"<!-- (?P<name>(?!project)\w+):begin -->(?P<content>.*?)<!-- (?P=name):end -->",
    re.DOTALL,
)
_PROJECT = re.compile(r"<!-- project:begin -->.*?<!-- project:end -->\n*", re.DOTALL)
# The Hub's names for sizes, and the number of rows below which each is right.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
)
_LARGEST = "n>1M"

# The address of this package's source. It is not published yet: set it here, and nowhere else.
SOURCE = "ADDRESS-OF-THE-SOURCE"
INSTALL = f"""\
The source has no published address yet; {SOURCE} stands for it.

```bash
git clone {SOURCE} MMRel && pip install ./MMRel
```"""
EXAMPLE = "data/example.jpg"  # the picture of the row that the card shows
EXAMPLE_SIDE = 384  # pixels of its longer side, at most
ROW = (
    *("question", "instruction", "answer", "task", "category"),
    *("subject", "relation", "object", "domain", "image_id"),
)


class CardContent(NamedTuple):
    """What is generated in a card: its YAML, and its blocks by name."""

    front: str
    blocks: dict[str, str]


# --- Features, splits and sizes ---


def make_config_infos(facts: list[SplitStats]) -> dict[str, dict[str, Any]]:
    """Return the splits and sizes of each config, as dataset_infos.json and the card say them."""
    infos = {}
    for config in mmrel.CONFIGS:
        chosen = [part for part in facts if config in ("all", part.domain)]
        splits: dict[str, dict[str, Any]] = {}
        for part in chosen:
            empty = {"name": part.split, "num_bytes": 0, "num_examples": 0}
            info = splits.setdefault(part.split, empty)
            info["num_bytes"] += part.num_bytes
            info["num_examples"] += part.rows
        if splits:
            infos[config] = {
                "splits": {split: splits[split] for split in mmrel.SPLITS if split in splits},
                "download_size": sum(part.table_bytes for part in chosen),
                "dataset_size": sum(part.num_bytes for part in chosen),
            }
    return infos


def make_dataset_infos(facts: list[SplitStats]) -> str:
    """Return the text of dataset_infos.json."""
    infos = {
        config: {
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
        for config, info in make_config_infos(facts).items()
    }
    return json.dumps(infos, indent=2) + "\n"


def make_front_matter(facts: list[SplitStats], hub_eval: Sequence[str] = ()) -> dict[str, Any]:
    """Return the YAML on top of the card, which the Hub shows and `load_dataset` obeys.

    Args:
        facts: of all splits of the release.
        hub_eval: splits of the config for the Hub's own evaluation, where there is one.
    """
    infos = make_config_infos(facts)
    configs = [_describe_files(config, list(info["splits"])) for config, info in infos.items()]
    return {
        "pretty_name": "MMRel",
        "license": mmrel.LICENSE,
        "language": ["en"],
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "size_categories": [_name_size(sum(part.rows for part in facts))],
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
    """Return a config's tables, one glob for each split."""
    described: dict[str, Any] = {"config_name": config}
    folder = config
    if config == "all":
        described["default"] = True
        folder = "*"
    files = []
    for split in splits:
        files.append({"split": split, "path": f"data/{folder}/{split}-*.parquet"})
    described["data_files"] = files
    return described


def _describe_config(config: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return a config's features, splits and sizes."""
    # A list of its own for each config: YAML would write a shared one once and refer to it.
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


def make_counts_table(facts: list[SplitStats]) -> str:
    """Return a Markdown table of pictures and questions per domain and split."""
    kinds = (*mmrel.CATEGORIES, *mmrel.TASKS)
    heads = ["domain", "split", "pictures", "questions", *mmrel.CATEGORIES, "yes/no", "open-ended"]
    rule = f"| --- | --- |{' ---: |' * (len(heads) - 2)}"
    lines = [f"| {' | '.join(heads)} |", rule]
    for part in [*facts, *_add_up(facts)]:
        numbers = [part.pictures, part.rows, *(_count(part, kind) for kind in kinds)]
        cells = [part.domain, part.split, *(f"{number:,}" for number in numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def make_row(record: dict[str, Any]) -> str:
    """Return one row as the card shows it, under its picture."""
    picture = f"![The picture of the question below]({EXAMPLE})"
    lines = [picture, "", "| column | value |", "| --- | --- |"]
    for name in ROW:
        if record[name] is not None:
            lines.append(f"| `{name}` | {escape_markdown(record[name])} |")
    return "\n".join(lines)


def make_example_picture(data: bytes, where: str) -> bytes:
    """Return a picture as a small JPEG.

    Raises:
        InputError: the picture is damaged; `where` names it.
    """
    picture = check_picture(data, where).convert("RGB")
    picture.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _count(facts: SplitStats, word: str) -> int:
    return sum(number for kind, number in facts.counts.items() if word in kind.split())


def _add_up(facts: list[SplitStats]) -> list[SplitStats]:
    """Return a row that adds up all domains and splits; none for no splits."""
    whole = merge_stats(part._replace(domain="all", split=mmrel.SPLITS[0]) for part in facts)
    return [part._replace(split="") for part in whole]


# --- The card ---


def generate(
    facts: list[SplitStats],
    note: str | None,
    made: dict[str, str],
    hub_eval: Sequence[str] = (),
) -> CardContent:
    """Return the generated parts of a card.

    Args:
        facts: of all splits of the release.
        note: what the release says of itself, above everything else.
        made: the blocks that others make: `audit` and `sizes`, and `row` (see `make_row`).
        hub_eval: splits of the config for the Hub's own evaluation, where there is one.
    """
    import yaml

    front = make_front_matter(facts, hub_eval)
    blocks = {
        "note": f"> {note}" if note else "",
        "version": f"Version {mmrel.__version__}.",
        "install": INSTALL,
        "counts": make_counts_table(facts),
        **make_published_blocks(),
        "evaluation": describe_evaluation(hub_eval),
    }
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    return CardContent(text, blocks | made)


def read_card(card: str) -> CardContent:
    """Return the generated parts of a card."""
    match = _FRONT.match(card)
    blocks = {block["name"]: block["content"].strip("\n") for block in _BLOCK.finditer(card)}
    return CardContent(match[1] if match else "", blocks)


def render_card(text: str, generated: CardContent, of_project: bool = False) -> str:
    """Return a card with its YAML and its generated blocks made anew.

    Args:
        text: the template, or a card made from it before.
        generated: what to put there.
        of_project: keep what is about the source repository.

    Raises:
        InputError: the template and the generated parts do not name the same blocks.
    """

    def make_block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name}:begin -->\n{generated.blocks[name]}\n<!-- {name}:end -->"

    body = _FRONT.sub("", text)
    if not of_project:
        body = _PROJECT.sub("", body)
    names = [match["name"] for match in _BLOCK.finditer(body)]
    if sorted(names) != sorted(generated.blocks):
        expected, got = ", ".join(generated.blocks), ", ".join(names)
        raise InputError(f"{TEMPLATE}: expected the blocks {expected}, got {got}")
    return f"---\n{generated.front}---\n{_BLOCK.sub(make_block, body)}"
