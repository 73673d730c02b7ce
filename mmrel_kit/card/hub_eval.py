# SPDX-License-Identifier: Apache-2.0
"""Writes what the Hub's own evaluation needs: eval.yaml (inspect-ai) and a config of its own, `hub_eval`.

inspect-ai reads a picture from a column of data URIs and scores with a scorer of a fixed list, so the yes/no questions
stand once more in hub_eval/, with pictures of at most 768 pixels. The reference metric remains `relation_accuracy`;
the pattern here reads the answers that lead with yes or no.
"""

from __future__ import annotations

import base64
import io
import textwrap
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import mmrel
from mmrel_kit.build.tables import GROUP_ROWS
from mmrel_kit.pictures.archives import check_picture
from mmrel_kit.questions.records import make_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

CONFIG = "hub_eval"
SPLITS = ("test", "adversarial")
MAX_SIDE = 768  # pixels
QUALITY = 90
CARD_WIDTH = 120  # characters of a line of the card
KEPT = ("question_id", "image_id", "pair_id", "domain", "category", "relation")
PATTERN = r"^\W*(?:(?:the )?answer(?: is)?\W*)?(yes|no)\b"


def write_hub_eval(root: Path) -> None:
    """Write eval.yaml and hub_eval/ into the folder of a release whose data/ is complete."""
    import yaml

    (root / CONFIG).mkdir()
    schema = pa.schema([(name, pa.string()) for name in ("image", "input", "target", *KEPT)])
    for split in SPLITS:
        if archives := sorted(root.glob(f"data/*/{split}-*.tar")):
            path = root / CONFIG / f"{split}-00000-of-00001.parquet"
            with pq.ParquetWriter(path, schema, dictionary_pagesize_limit=1 << 30) as writer:
                for rows in _cut(_read_rows(archives)):
                    writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))
    text = yaml.safe_dump(make_eval(find_splits(root)), sort_keys=False, width=120)
    (root / "eval.yaml").write_text(text, "utf-8", newline="\n")


def make_eval(splits: Iterable[str]) -> dict[str, Any]:
    """What eval.yaml says: a task for each split."""
    fields = {"input": "input", "input_image": "image", "target": "target"}
    return {
        "name": "MMRel",
        "description": mmrel.DESCRIPTION,
        "evaluation_framework": "inspect-ai",
        "tasks": [
            {
                "id": split,
                "config": CONFIG,
                "split": split,
                "field_spec": {**fields, "metadata": list(KEPT)},
                "solvers": [{"name": "generate"}],
                "scorers": [{"name": "pattern", "args": {"pattern": PATTERN, "ignore_case": True}}],
            }
            for split in splits
        ],
    }


def describe_evaluation(splits: Sequence[str]) -> str:
    """Return what the card says of eval.yaml and hub_eval/; nothing where there are no splits."""
    if not splits:
        return ""
    asked = (
        "`eval.yaml` describes an evaluation that [inspect](https://inspect.aisi.org.uk) runs straight from the Hub: "
        "`inspect eval hf/NS/MMRel --model openai/NAME` asks a model the yes/no questions of this repository, one task "
        f"for each split ({', '.join(splits)}), and prints its accuracy. `NS/MMRel` is the name of this repository."
    )
    held = (
        f"The config `{CONFIG}` (folder `{CONFIG}/`) is what that command reads: the same yes/no questions once more, "
        f"each picture as text (a data URI) of at most {MAX_SIDE} pixels a side. It is not more data: do not train on "
        "it, and do not add it to the counts above. An answer counts where it begins with yes or no. For precision, "
        "recall, F1 and pair accuracy, and for answers in other words, score with `relation_accuracy`, as above."
    )
    wrapper = textwrap.TextWrapper(CARD_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join(["### Evaluation from the Hub", wrapper.fill(asked), wrapper.fill(held)])


def make_config(splits: Iterable[str]) -> list[dict[str, Any]]:
    """The config as the card's YAML lists it; nothing where a release has none of its splits."""
    files = [{"split": split, "path": f"{CONFIG}/{split}-*.parquet"} for split in splits]
    return [{"config_name": CONFIG, "data_files": files}] if files else []


def find_splits(root: Path) -> list[str]:
    """The splits of `hub_eval` that a release has."""
    return [split for split in SPLITS if any(root.glob(f"{CONFIG}/{split}-*.parquet"))]


def read_texts(root: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield split, column and text of each cell, but for the pictures."""
    for split in find_splits(root):
        for path in sorted(root.glob(f"{CONFIG}/{split}-*.parquet")):
            with pq.ParquetFile(path) as file:
                columns = [name for name in file.schema_arrow.names if name != "image"]
                for batch in file.iter_batches(columns=columns):
                    for column in columns:
                        for value in batch.column(column).to_pylist():
                            yield split, column, value


def make_uri(data: bytes, where: str) -> str:
    """A picture as a data URI; its bytes as they came where it is small enough, else scaled down, as JPEG."""
    image = check_picture(data, where)
    media_type = Image.MIME[str(image.format)]
    if max(image.size) > MAX_SIDE:
        image = image.convert("RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        data, media_type = buffer.getvalue(), "image/jpeg"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _read_rows(archives: list[Path]) -> Iterator[dict[str, Any]]:
    for path in archives:
        with open(path, "rb") as file:
            for records, data in mmrel.read_archive(file, path.name, path.stat().st_size):
                asked = [record for record in records if record["task"] == "discriminative"]
                uri = make_uri(data, f"{path}: {records[0]['image_id']}") if asked else ""
                for record in asked:
                    kept = {name: record[name] for name in KEPT}
                    yield {"image": uri, "input": make_prompt(record), "target": record["answer"], **kept}


def _cut(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        if len(group) >= GROUP_ROWS and row["image_id"] != group[-1]["image_id"]:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
