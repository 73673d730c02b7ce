"""A picture decoded once has the same pixels as one decoded for each row, in any order of rows."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import PIL.Image
import pytest
from PIL import ImageDraw

import mmrel
from mmrel_kit.pictures import Picture, shuffle_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def pixels(rows: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """All of a row: columns, and what there is to a decoded picture."""
    return [
        (
            {name: value for name, value in row.items() if name != "image"},
            (
                type(row["image"]),
                row["image"].mode,
                row["image"].size,
                row["image"].format,
                row["image"].tobytes(),
            ),
        )
        for row in rows
    ]


def encode(picture: PIL.Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> PIL.Image.Image:
    draw = np.random.default_rng(0)
    return PIL.Image.fromarray(
        draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    ).convert(mode)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a picture is opened, which each decoding begins with."""
    opens: list[int] = []
    real = PIL.Image.open

    def count(*args: Any, **kwargs: Any) -> Any:
        opens.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(PIL.Image, "open", count)
    return opens


@pytest.fixture(params=["stream", "dataset", "parquet", "parquet stream"])
def loaded(request: pytest.FixtureRequest, built: Path, tmp_path: Path) -> Any:
    streaming = "stream" in request.param
    if "parquet" in request.param:
        return datasets.load_dataset(
            str(built), "real", split="test", streaming=streaming, cache_dir=str(tmp_path / "cache")
        )
    return mmrel.load(
        "real", split="test", root=built, streaming=streaming, cache_dir=str(tmp_path / "cache")
    )


def test_the_same_rows_and_pixels_from_a_third_of_the_decoding(
    loaded: Any, opened: list[int]
) -> None:
    expected = pixels(loaded)
    assert len(opened) == len(expected) == 48
    opened.clear()
    assert pixels(loaded.cast_column("image", Picture())) == expected
    assert len(opened) == 16


def test_shuffled_by_picture(loaded: Any, opened: list[int]) -> None:
    expected = pixels(loaded)
    opened.clear()
    shuffled = shuffle_pictures(loaded.cast_column("image", Picture()), seed=3)
    found = pixels(shuffled)
    assert len(opened) == 16
    assert found != expected
    key = lambda pair: pair[0]["question_id"]  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)
    # The questions about a picture stay together, in their order.
    order = [row["question_id"] for row, _ in expected]
    places = [order.index(row["question_id"]) for row, _ in found]
    assert all(places[n : n + 3] == list(range(places[n], places[n] + 3)) for n in range(0, 48, 3))
    # The same seed gives the same, another seed another order.
    assert pixels(shuffle_pictures(loaded.cast_column("image", Picture()), seed=3)) == found
    assert pixels(shuffle_pictures(loaded.cast_column("image", Picture()), seed=4)) != found


def test_rows_in_any_order(loaded: Any) -> None:
    key = lambda pair: pair[0]["question_id"]  # noqa: E731
    expected = sorted(pixels(loaded), key=key)
    mixed = loaded.shuffle(seed=1).cast_column("image", Picture())
    assert sorted(pixels(mixed), key=key) == expected


def test_formats(loaded: Any) -> None:
    expected = [np.asarray(row["image"]) for row in loaded]
    formatted = loaded.cast_column("image", Picture()).with_format("numpy")
    assert all(
        np.array_equal(row["image"], array) for row, array in zip(formatted, expected, strict=True)
    )
    # In datasets < 5, a stream cannot join rows to batches where a column is null in some.
    size = 5 if int(datasets.__version__.split(".")[0]) > 4 else 1
    batches = [batch["image"] for batch in loaded.cast_column("image", Picture()).iter(size)]
    assert [image.tobytes() for batch in batches for image in batch] == [
        array.tobytes() for array in expected
    ]


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")]
)
def test_a_change_of_one_row_is_its_own(mode: str, kind: str) -> None:
    value = {"bytes": encode(noise(mode), kind), "path": None}
    feature = Picture()
    expected = datasets.Image().decode_example(value)
    changes: list[Callable[[PIL.Image.Image], Any]] = [
        lambda image: image.paste(0, (0, 0, 20, 20)),
        lambda image: image.putpixel((1, 1), 0),
        lambda image: image.putdata([0] * 50 if mode in "LP" else [(0,) * len(mode)] * 50),
        lambda image: image.thumbnail((8, 8)),
        lambda image: ImageDraw.Draw(image).rectangle((0, 0, 30, 30), fill=0),
        lambda image: image.info.update(dpi=3),
        lambda image: image.getexif().update({0x0112: 6}),
        lambda image: image.palette and image.palette.getcolor((1, 2, 3)),
    ]
    for change in changes:
        change(feature.decode_example(value))
        image = feature.decode_example(value)
        assert (image.mode, image.tobytes(), image.info) == (
            expected.mode,
            expected.tobytes(),
            expected.info,
        )
        assert image.convert("RGB").tobytes() == expected.convert("RGB").tobytes()
        assert dict(image.getexif()) == dict(expected.getexif())
    with pytest.raises(ValueError, match="readonly"):
        feature.decode_example(value).load()[0, 0] = 0 if mode in "LP" else (0,) * len(mode)
    copy = feature.decode_example(value).copy()
    copy.load()[0, 0] = 0 if mode in "LP" else (0,) * len(mode)


def test_turned_pictures_modes_and_values_that_are_no_bytes(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = {"bytes": encode(noise(), exif=exif), "path": None}
    for options in ({}, {"mode": "L"}):
        expected = datasets.Image(**options).decode_example(turned)
        assert Picture(**options).decode_example(turned).tobytes() == expected.tobytes()
    assert Picture().decode_example(turned).size == (48, 64)
    (tmp_path / "a.jpg").write_bytes(turned["bytes"])
    assert Picture().decode_example({"bytes": None, "path": str(tmp_path / "a.jpg")}).size == (
        48,
        64,
    )


def test_pickles_and_prints_without_the_last_picture() -> None:
    feature = Picture(min_side=20)
    before = pickle.dumps(feature)
    feature.decode_example({"bytes": encode(noise()), "path": None})
    assert pickle.dumps(feature) == before
    assert pickle.loads(before) == feature != Picture()
    assert (
        datasets.Features.from_dict(datasets.Features(image=feature).to_dict())["image"]
        == datasets.Image()
    )


class TestReduced:
    """JPEG at reduced size: how large, and how near to what is asked of full size."""

    @pytest.mark.parametrize(
        ("min_side", "size"),
        [
            (None, (800, 600)),
            (301, (800, 600)),
            (300, (400, 300)),
            (100, (200, 150)),
            (9, (100, 75)),
        ],
    )
    def test_sizes(self, min_side: int | None, size: tuple[int, int]) -> None:
        value = {"bytes": encode(noise(size=(800, 600))), "path": None}
        assert Picture(min_side=min_side).decode_example(value).size == size

    def test_odd_sizes_are_rounded_up(self) -> None:
        value = {"bytes": encode(noise(size=(801, 601))), "path": None}
        assert Picture(min_side=300).decode_example(value).size == (401, 301)

    def test_pixels_are_means(self) -> None:
        picture = noise(size=(160, 120)).resize((800, 600), PIL.Image.Resampling.BICUBIC)
        for subsampling, levels in ((0, 0.6), (2, 6)):  # colour at full and at half resolution
            value = {"bytes": encode(picture, subsampling=subsampling), "path": None}
            reduced = np.asarray(Picture(min_side=300).decode_example(value), dtype=float)
            means = np.asarray(Picture().decode_example(value).reduce(2), dtype=float)
            assert np.abs(reduced - means).mean() < levels

    def test_other_formats_keep_their_size(self) -> None:
        for kind in ("PNG", "WEBP"):
            value = {"bytes": encode(noise(), kind), "path": None}
            assert Picture(min_side=1).decode_example(value).size == (64, 48)

    def test_no_pixels_at_all(self) -> None:
        with pytest.raises(ValueError, match="expected min_side from 1 pixel on, or None, got 0"):
            Picture(min_side=0)


def test_windows(built: Path) -> None:
    stream = mmrel.load("real", split="test", root=built, streaming=True)
    with pytest.raises(ValueError, match="expected a window of 1 picture or more, got 0"):
        shuffle_pictures(stream, seed=0, window=0)
    with pytest.raises(ValueError, match="expected a stream with features"):
        shuffle_pictures(stream.map(dict), seed=0)
    ids = [row["question_id"] for row in shuffle_pictures(stream, seed=0, window=1)]
    assert sorted(ids) == sorted(row["question_id"] for row in stream)
