# SPDX-License-Identifier: Apache-2.0
"""Draws a contact sheet of a release, for people to look at."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

import mmrel
from release.build import write_aside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CELL = 250  # pixels, width of a cell and height of its picture
TEXT_WIDTH = 42  # characters of a line below a picture
TEXT_LINES = 9
FONT_SIZE = 11
LINE = 14
GAP = 10
COLUMNS = 4
MAX_PER_SPLIT = 4


class Cell(NamedTuple):
    """A picture and what stands below it."""

    title: str
    image: Image.Image
    lines: list[str]


def draw_sheet(root: Path, out: Path) -> None:
    """Draw some pictures of every domain and split with their questions and answers into a PNG.

    Pictures are taken at even distances, so that the sheet shows all kinds of them; the file is written aside first.
    """
    cells = list(_choose_cells(mmrel.Release(str(root))))
    rows = -(-len(cells) // COLUMNS)
    height = CELL + LINE * (TEXT_LINES + 1) + GAP
    sheet = Image.new("RGB", (COLUMNS * (CELL + GAP) + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for number, cell in enumerate(cells):
        x, y = GAP + number % COLUMNS * (CELL + GAP), GAP + number // COLUMNS * height
        draw.text((x, y), cell.title, fill="black", font=font)
        sheet.paste(cell.image, (x + (CELL - cell.image.width) // 2, y + LINE + (CELL - cell.image.height) // 2))
        for index, line in enumerate(cell.lines[:TEXT_LINES]):
            draw.text((x, y + LINE + CELL + 2 + index * LINE), line, fill="#333333", font=font)
    buffer = io.BytesIO()
    sheet.quantize(128).save(buffer, "PNG", optimize=True)
    write_aside(out, buffer.getvalue())


def _choose_cells(release: mmrel.Release) -> Iterator[Cell]:
    for split, names in release.archives("all").items():
        for domain in sorted({name.split("/")[1] for name in names}):
            archives = [name for name in names if name.split("/")[1] == domain]
            count = sum(1 for _ in _read(release, archives))
            wanted = {index * count // MAX_PER_SPLIT for index in range(MAX_PER_SPLIT)}
            for index, (records, data) in enumerate(_read(release, archives)):
                if index in wanted:
                    yield _make_cell(f"{domain} / {split}", records, data)


def _read(release: mmrel.Release, archives: list[str]) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    for name in archives:
        with mmrel.open_file(release.path(name)) as file:
            yield from mmrel.read_archive(file, name, release.files[name]["size"])


def _make_cell(title: str, records: list[dict[str, Any]], data: bytes) -> Cell:
    image = ImageOps.contain(Image.open(io.BytesIO(data)).convert("RGB"), (CELL, CELL))
    lines: list[str] = []
    for record in records:
        lines += textwrap.wrap(f"{record['question']}  {record['answer'].upper()}", TEXT_WIDTH)
    return Cell(f"{title}   {records[0]['style'] or ''}", image, lines)
