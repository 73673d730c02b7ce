# SPDX-License-Identifier: Apache-2.0
"""Draw a contact sheet of a release: pictures with their questions and answers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

import mmrel
from mmrel_kit.files import write_bytes
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.pictures.validate import check_picture

# In pixels.
SIDE = 240  # width of a tile, limit of its picture's height
FONT_SIZE = 11
LINE_HEIGHT = 14
GAP = 12  # between tiles
PADDING = 5  # between a picture and the text below it

TEXT_WIDTH = 40  # characters of a line below a picture
COLUMNS = 6


class Tile(NamedTuple):
    """A picture with the text above (`title`) and below it (`lines`)."""

    title: str
    image: Image.Image
    lines: list[str]

    @property
    def height(self) -> int:
        """Height of the tile in pixels, with the gap below it."""
        return LINE_HEIGHT + self.image.height + PADDING + LINE_HEIGHT * len(self.lines) + GAP


def draw_sheet(
    root: Path, out: Path, per_split: int = 2, advance: Callable[[int], object] = lambda _: None
) -> None:
    """Draw pictures of every domain and split with their questions and answers into a PNG.

    The `per_split` pictures are evenly spaced; `advance` is called with the bytes of each.

    Raises:
        ReleaseError: there is no valid release in `root`.
        InputError: a picture is damaged.
    """
    tiles = list(_choose_tiles(mmrel.Release(root), per_split, advance))
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    heights = [max(tile.height for tile in row) for row in rows]
    size = (COLUMNS * (SIDE + GAP) + GAP, sum(heights) + GAP)
    sheet = Image.new("RGB", size, "white")
    y = 0
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _draw_tile(sheet, tile, GAP + column * (SIDE + GAP), GAP + y)
        y += height
    buffer = io.BytesIO()
    sheet.quantize(256).save(buffer, "PNG", optimize=True)
    write_bytes(out, buffer.getvalue())


def _draw_tile(sheet: Image.Image, tile: Tile, x: int, y: int) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    draw.text((x, y), tile.title, fill="black", font=font)
    sheet.paste(tile.image, (x, y + LINE_HEIGHT + 2))
    below = y + LINE_HEIGHT + tile.image.height + PADDING
    for number, line in enumerate(tile.lines):
        draw.text((x, below + number * LINE_HEIGHT), line, fill="#333333", font=font)


def _choose_tiles(
    release: mmrel.Release, per_split: int, advance: Callable[[int], object]
) -> Iterator[Tile]:
    for split, names in release.archives("all").items():
        for domain in sorted({name.split("/")[1] for name in names}):
            archives = [name for name in names if name.split("/")[1] == domain]
            count = sum(1 for _ in read_archives(release, archives))
            chosen = {(2 * index + 1) * count // (2 * per_split) for index in range(per_split)}
            for index, (records, data) in enumerate(read_archives(release, archives)):
                if index in chosen:
                    yield _make_tile(f"{domain} / {split}", records, data)
                advance(len(data))


def _make_tile(title: str, records: list[dict[str, Any]], data: bytes) -> Tile:
    picture = check_picture(data, f"picture {records[0]['image_id']!r}")
    image = ImageOps.contain(picture.convert("RGB"), (SIDE, SIDE))
    lines: list[str] = []
    for record in records:
        lines += textwrap.wrap(f"{record['question']} {record['answer'].upper()}", TEXT_WIDTH)
    style = records[0]["style"]
    if style:
        title += f" / {style}"
    return Tile(title, image, lines)
