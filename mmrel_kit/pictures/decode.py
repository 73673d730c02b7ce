# SPDX-License-Identifier: Apache-2.0
"""Decode each picture once for all of its questions, and shuffle so that these stay together.

    from mmrel_kit.pictures import Picture, shuffle_pictures

    stream = mmrel.load("real", split="train", streaming=True)
    stream = shuffle_pictures(stream.cast_column("image", Picture(min_side=336)), seed=0)

Both work on whatever `datasets` (from 3.6 on) has loaded, with or without `mmrel.py`: streams and
`Dataset`s, archives and Parquet.
"""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any, ClassVar

import datasets
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

# Pictures in a stream's shuffle buffer: 10 MB of JPEG, 150 MB of DALL-E's PNG.
WINDOW = 100


@dataclasses.dataclass
class Picture(datasets.Image):  # type: ignore[misc]
    """`datasets.Image` that caches the last picture for consecutive rows of one picture.

    These rows share its pixels. Pillow copies them before it changes them in place, and writing
    through `load()` raises `ValueError` (take a `copy()`). Only `frombytes`, and `putpalette` on a
    grey picture, affect the other rows.

    Attributes:
        min_side: pixels that a model needs of the shorter side, at least. A JPEG is then decoded at
            a half, a quarter or an eighth of its size (rounded up) while that many are left, 1.6 to
            2.3 times as fast. A pixel is the mean of those it replaces, within half a level of 255
            on average; within 1 to 5 levels where the file stores colour at half resolution, as
            most do, and colours change from pixel to pixel. None, and other formats: full size.
    """

    min_side: int | None = None
    # Bytes or path of the last row, and its picture; each object replaces the class's empty cache.
    _last: ClassVar[tuple[bytes | str | None, Any]] = (None, None)

    def __post_init__(self) -> None:
        if self.min_side is not None and self.min_side < 1:
            raise ValueError(f"expected min_side from 1 pixel on, or None, got {self.min_side!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_last"}

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """Return the picture of a row, decoded unless it is the last one."""
        source = (value["bytes"] or value["path"]) if isinstance(value, dict) else None
        if source is None or (isinstance(source, str) and "://" in source):
            return super().decode_example(value, token_per_repo_id)
        last_source, image = self._last
        if last_source != source:
            image = self._decode(source)
            self._last = source, image  # type: ignore[misc]
        return _share(image)

    def _decode(self, source: bytes | str) -> PIL.Image.Image:
        """Decode the bytes of a picture, or the file at a path."""
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        image: PIL.Image.Image = PIL.Image.open(file)
        if self.min_side:
            image.draft(image.mode, (self.min_side, self.min_side))
        image.load()
        if image.getexif().get(PIL.ExifTags.Base.Orientation) is not None:
            image = PIL.ImageOps.exif_transpose(image)
        if self.mode and self.mode != image.mode:
            return image.convert(self.mode)
        return image


def _share(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return a picture that shares class, format and pixels until one of the two is changed."""
    twin = type(image).__new__(type(image))
    vars(twin).update(
        vars(image),
        info=dict(image.info),
        palette=image.palette and image.palette.copy(),
        _exif=None,
    )
    twin.readonly = 1
    return twin


def shuffle_pictures(dataset: Any, seed: int, window: int = WINDOW) -> Any:
    """Shuffle a `Dataset` or a stream by its pictures; the questions about one stay together.

    A stream's shards are shuffled, and the pictures of a shard within a window. Unlike after
    `shuffle()`, a state_dict resumes exactly at the next question, since the order within a shard
    depends on the seed and the shard alone. Pass another seed in each epoch.

    Args:
        dataset: a loaded dataset with its column `image_id`; decoding set by `cast_column` is kept.
        seed: the same seed gives the same order.
        window: pictures of a stream that are buffered, undecoded.

    Raises:
        ValueError: `window` is less than 1, or the stream has no features.
    """
    if window < 1:
        raise ValueError(f"expected a window of 1 picture or more, got {window!r}")
    if not isinstance(dataset, datasets.IterableDataset):
        numbered = enumerate(dataset.with_format(None)["image_id"])
        pictures = []
        for _, rows in groupby(numbered, key=lambda row: row[1]):
            pictures.append([number for number, _ in rows])
        random.Random(seed).shuffle(pictures)
        return dataset.select(list(chain.from_iterable(pictures)))
    if not dataset.features:
        raise ValueError(
            "expected a stream with features, got one whose features are None; shuffle before map"
        )
    undecoded = dataset.cast_column("image", datasets.Image(decode=False))
    shards = [(index, dataset.n_shards) for index in range(dataset.n_shards)]
    random.Random(seed).shuffle(shards)
    return datasets.IterableDataset.from_generator(
        _mix_shards,
        features=dataset.features,
        gen_kwargs={"shards": shards, "stream": undecoded, "seed": seed, "window": window},
        split=dataset.split,
    )


def _mix_shards(
    shards: list[tuple[int, int]], stream: Any, seed: int, window: int
) -> Iterator[dict[str, Any]]:
    for index, count in shards:
        rows = _read_rows(stream.shard(count, index) if count > 1 else stream)
        for picture in _mix(_group_rows(rows), random.Random(f"{seed} {index}"), window):
            yield from picture


def _read_rows(stream: Any) -> Iterator[dict[str, Any]]:
    # Inside a DataLoader worker, iterating over a stream's rows yields that worker's part only;
    # iterating over its batches yields all rows. Batches have one row, since datasets < 5 cannot
    # join rows of which some have None in a column.
    for batch in stream.iter(batch_size=1):
        yield {name: value for name, (value,) in batch.items()}


def _group_rows(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the consecutive rows about each picture."""
    for _, group in groupby(rows, key=lambda row: row["image_id"]):
        yield list(group)


def _mix(pictures: Iterator[Any], draw: random.Random, window: int) -> Iterator[Any]:
    """Yield pictures in an order drawn within a buffer of `window` pictures."""
    buffer: list[Any] = []
    for picture in pictures:
        if len(buffer) == window:
            slot = draw.randrange(window)
            yield buffer[slot]
            buffer[slot] = picture
        else:
            buffer.append(picture)
    yield from draw.sample(buffer, len(buffer))
