# SPDX-License-Identifier: Apache-2.0
"""Draws a contact sheet of a release, for people to look at."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

import mmrel
from mmrel_kit.files import write_bytes
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.pictures.whole import check_picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CELL = 240  # pixels, width of a cell and most height of its picture
TEXT_WIDTH = 40  # characters of a line below a picture
FONT_SIZE = 11
LINE = 14
GAP = 12
COLUMNS = 6


class Cell(NamedTuple):
    """A picture and what stands below it."""

    title: str
    image: Image.Image
    lines: list[str]

    @property
    def height(self) -> int:
        """Pixels that the cell takes, with the gap below it."""
        return LINE + self.image.height + 5 + LINE * len(self.lines) + GAP


def draw_sheet(root: Path, out: Path, per_split: int = 2) -> None:
    """Draw pictures of every domain and split with their questions and answers into a PNG, written aside first.

    Args:
        root: folder of a release.
        out: the PNG.
        per_split: pictures of each domain and split, taken at even distances.
    """
    cells = list(_choose_cells(mmrel.Release(str(root)), per_split))
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (COLUMNS * (CELL + GAP) + GAP, sum(heights) + GAP), "white")
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            _draw_cell(sheet, cell, GAP + column * (CELL + GAP), GAP + sum(heights[:number]))
    buffer = io.BytesIO()
    sheet.quantize(256).save(buffer, "PNG", optimize=True)
    write_bytes(out, buffer.getvalue())


def _draw_cell(sheet: Image.Image, cell: Cell, x: int, y: int) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    draw.text((x, y), cell.title, fill="black", font=font)
    sheet.paste(cell.image, (x, y + LINE + 2))
    below = y + LINE + cell.image.height + 5
    for number, line in enumerate(cell.lines):
        draw.text((x, below + number * LINE), line, fill="#333333", font=font)


def _choose_cells(release: mmrel.Release, per_split: int) -> Iterator[Cell]:
    for split, names in release.archives("all").items():
        for domain in sorted({name.split("/")[1] for name in names}):
            archives = [name for name in names if name.split("/")[1] == domain]
            count = sum(1 for _ in read_archives(release, archives))
            wanted = {(2 * index + 1) * count // (2 * per_split) for index in range(per_split)}
            for index, (records, data) in enumerate(read_archives(release, archives)):
                if index in wanted:
                    yield _make_cell(f"{domain} / {split}", records, data)


def _make_cell(title: str, records: list[dict[str, Any]], data: bytes) -> Cell:
    picture = check_picture(data, f"picture {records[0]['image_id']!r}")
    image = ImageOps.contain(picture.convert("RGB"), (CELL, CELL))
    lines: list[str] = []
    for record in records:
        lines += textwrap.wrap(f"{record['question']} {record['answer'].upper()}", TEXT_WIDTH)
    return Cell(" / ".join(filter(None, (title, records[0]["style"]))), image, lines)
