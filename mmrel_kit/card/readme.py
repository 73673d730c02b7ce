# SPDX-License-Identifier: Apache-2.0
"""Writes the card of a release and dataset_infos.json; the template is this project's own README.md.

The card is the README with its YAML and its generated blocks (`<!-- counts:begin -->` … `<!-- counts:end -->`) made
anew, and without what concerns the source repository only (`<!-- project:begin -->` … `<!-- project:end -->`).
"""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit.card.facts import describe_features, merge_facts
from mmrel_kit.card.hub_eval import describe_evaluation, make_config
from mmrel_kit.files import PROJECT, InputError, escape_markdown
from mmrel_kit.pictures.whole import check_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmrel_kit.card.facts import Facts

TEMPLATE = PROJECT / "README.md"
_FRONT = re.compile(r"\A---\n(.*?)---\n", re.DOTALL)
_BLOCK = re.compile(r"<!-- (?P<name>(?!project)\w+):begin -->(?P<content>.*?)<!-- (?P=name):end -->", re.DOTALL)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


# The address of this package's source. It is not published yet: set it here, and nowhere else.
SOURCE = "ADDRESS-OF-THE-SOURCE"
INSTALL = f"""\
The source has no published address yet; {SOURCE} stands for it.

```bash
git clone {SOURCE} MMRel && pip install ./MMRel
```"""
EXAMPLE = "data/example.jpg"  # the picture of the row that the card shows
ROW = ("question", "instruction", "answer", "task", "category", "subject", "relation", "object", "domain", "image_id")
EXAMPLE_SIDE = 384  # pixels of its longer side, at most


def make_infos(facts: list[Facts]) -> dict[str, dict[str, Any]]:
    """Per config what dataset_infos.json and the card's `dataset_info` say: features, splits, sizes."""
    infos = {}
    for config in mmrel.CONFIGS:
        chosen = [part for part in facts if config in ("all", part.domain)]
        splits: dict[str, dict[str, Any]] = {}
        for part in chosen:
            info = splits.setdefault(part.split, {"name": part.split, "num_bytes": 0, "num_examples": 0})
            info["num_bytes"] += part.num_bytes
            info["num_examples"] += part.rows
        if splits:
            infos[config] = {
                "splits": {split: splits[split] for split in mmrel.SPLITS if split in splits},
                "download_size": sum(part.table_bytes for part in chosen),
                "dataset_size": sum(part.num_bytes for part in chosen),
            }
    return infos


def make_dataset_infos(facts: list[Facts]) -> str:
    """Text of dataset_infos.json."""
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
        for config, info in make_infos(facts).items()
    }
    return json.dumps(infos, indent=2) + "\n"


def make_front_matter(facts: list[Facts], hub_eval: Sequence[str] = ()) -> dict[str, Any]:
    """The YAML on top of the card: what the Hub shows and `load_dataset` obeys; one glob for each split.

    Args:
        facts: of all splits of the release.
        hub_eval: splits of the config for the Hub's own evaluation, where there is one.
    """
    infos = make_infos(facts)
    rows = sum(part.rows for part in facts)
    return {
        "pretty_name": "MMRel",
        "license": mmrel.LICENSE,
        "language": ["en"],
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), "n>1M")],
        "tags": ["relations", "hallucination", "multimodal", "benchmark"],
        "configs": [
            {
                "config_name": config,
                **({"default": True} if config == "all" else {}),
                "data_files": [
                    {"split": split, "path": f"data/{'*' if config == 'all' else config}/{split}-*.parquet"}
                    for split in info["splits"]
                ],
            }
            for config, info in infos.items()
        ]
        + make_config(hub_eval),
        "dataset_info": [
            {
                "config_name": config,
                # A list of its own for each: YAML would write a shared one once and refer to it.
                "features": [{"name": "image", "dtype": "image"}]
                + [{"name": name, "dtype": "string"} for name in mmrel.COLUMNS],
                "splits": list(info["splits"].values()),
                "download_size": info["download_size"],
                "dataset_size": info["dataset_size"],
            }
            for config, info in infos.items()
        ],
    }


def make_counts_table(facts: list[Facts]) -> str:
    """A Markdown table of pictures and questions per domain and split."""
    heads = ["domain", "split", "pictures", "questions", *mmrel.CATEGORIES, "yes/no", "open-ended"]
    lines = [f"| {' | '.join(heads)} |", f"| --- | --- |{' ---: |' * (len(heads) - 2)}"]
    for part in [*facts, *_total(facts)]:
        counts = [_count(part, category) for category in mmrel.CATEGORIES] + [_count(part, t) for t in mmrel.TASKS]
        cells = [part.domain, part.split, *(f"{number:,}" for number in (part.pictures, part.rows, *counts))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def make_row(record: dict[str, Any]) -> str:
    """Return one row as the card shows it, under its picture."""
    lines = [f"![The picture of the question below]({EXAMPLE})", "", "| column | value |", "| --- | --- |"]
    lines += [f"| `{name}` | {escape_markdown(record[name])} |" for name in ROW if record[name] is not None]
    return "\n".join(lines)


def make_example_picture(data: bytes, where: str) -> bytes:
    """Return a picture as a small JPEG; `where` names it in the `InputError` that a damaged one raises."""
    picture = check_picture(data, where).convert("RGB")
    picture.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class Generated(NamedTuple):
    """What is generated in a card: its YAML, and its blocks by name."""

    front: str
    blocks: dict[str, str]


def generate(facts: list[Facts], note: str | None, made: dict[str, str], hub_eval: Sequence[str] = ()) -> Generated:
    """The generated parts of a card.

    Args:
        facts: of all splits of the release.
        note: what the release says of itself, above everything else.
        made: the blocks that others make: `audit` and `sizes`, and `row` (see `make_row`).
        hub_eval: splits of the config for the Hub's own evaluation, where there is one.
    """
    import yaml

    front = yaml.safe_dump(make_front_matter(facts, hub_eval), sort_keys=False, allow_unicode=True, width=120)
    blocks = {"note": f"> {note}" if note else "", "version": f"Version {mmrel.__version__}.", "install": INSTALL}
    blocks |= {"counts": make_counts_table(facts), "evaluation": describe_evaluation(hub_eval)}
    return Generated(front, blocks | made)


def read_generated(card: str) -> Generated:
    """The generated parts of a card that stands already."""
    match = _FRONT.match(card)
    return Generated(match[1] if match else "", {m["name"]: m["content"].strip("\n") for m in _BLOCK.finditer(card)})


def fill_template(text: str, generated: Generated, of_project: bool = False) -> str:
    """Make the YAML and the generated blocks of a card anew.

    Args:
        text: the template, or a card made from it before.
        generated: what to put there.
        of_project: keep what concerns the source repository.

    Raises:
        InputError: the template and the generated parts do not name the same blocks.
    """
    body = _FRONT.sub("", text)
    if not of_project:
        body = re.sub(r"<!-- project:begin -->.*?<!-- project:end -->\n*", "", body, flags=re.DOTALL)
    names = [match["name"] for match in _BLOCK.finditer(body)]
    if sorted(names) != sorted(generated.blocks):
        raise InputError(f"{TEMPLATE}: expected the blocks {', '.join(generated.blocks)}, got {', '.join(names)}")
    body = _BLOCK.sub(lambda match: _make_block(match["name"], generated.blocks[match["name"]]), body)
    return f"---\n{generated.front}---\n{body}"


def _make_block(name: str, content: str) -> str:
    return f"<!-- {name}:begin -->\n{content}\n<!-- {name}:end -->"


def _count(facts: Facts, word: str) -> int:
    return sum(number for kind, number in facts.counts.items() if word in kind.split())


def _total(facts: list[Facts]) -> list[Facts]:
    whole = merge_facts(part._replace(domain="all", split=mmrel.SPLITS[0]) for part in facts)
    return [part._replace(split="") for part in whole]
