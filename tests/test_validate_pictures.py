"""The one check of a picture: an image, or what is wrong with it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from random import Random
from typing import Any

import pytest
from PIL import Image

from mmrel_kit.files import InputError, Problem
from mmrel_kit.pictures import validate
from mmrel_kit.pictures.validate import (
    check_picture,
    decode_grey,
    decode_picture,
    verify_picture,
)
from tests.helpers.pictures import make_jpeg, make_png


def test_a_picture_is_decoded() -> None:
    data = make_jpeg()
    image = decode_picture(data, "here")
    assert isinstance(image, Image.Image)
    assert (image.format, image.size) == ("JPEG", (40, 30))
    assert check_picture(data, "here").tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a complete JPEG, PNG, WEBP picture: cannot identify image file"),
        (
            b"GIF89a" + bytes(50),
            "expected a complete JPEG, PNG, WEBP picture: cannot identify image file",
        ),
        (make_jpeg()[:-200], "expected a complete JPEG, PNG, WEBP picture: "),
        (make_png(14_000, 14_000), "expected a picture of at most 178956970 pixels, got far more"),
        (make_png(50_000, 50_000), "expected a picture of at most 178956970 pixels, got far more"),
    ],
)
def test_what_is_wrong_with_one(data: bytes, message: str) -> None:
    problem = decode_picture(data, "here")
    assert isinstance(problem, Problem)
    assert problem.where == "here"
    assert problem.message.startswith(message)
    with pytest.raises(InputError) as caught:
        check_picture(data, "here")
    assert str(caught.value) == str(problem)


def test_where_pillows_own_bound_was_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    problem = decode_picture(make_png(14_000, 14_000), "here")
    assert str(problem) == "here: expected a picture of at most 178956970 pixels, got 14000 x 14000"


def test_what_training_needs_is_imported_without_any_extra() -> None:
    extras = (
        "torch",
        "openai",
        "fastapi",
        "imagehash",
        "matplotlib",
        "inspect_ai",
    )
    code = f"import sys; sys.modules.update(dict.fromkeys({extras})); "
    code += "from mmrel_kit.pictures import Picture, shuffle_pictures"
    subprocess.run([sys.executable, "-c", code], check=True)


def draw_pictures() -> list[bytes]:
    """Return small pictures in the ways in which JPEG, PNG and WebP store one."""
    random = Random(5)
    pictures = []
    for mode, side in (("L", 40), ("RGB", 61), ("CMYK", 33), ("RGB", 3)):
        image = draw(random, mode, side)
        for options in (
            {},
            {"progressive": True},
            {"subsampling": 0},
            {"restart_marker_blocks": 4},
            {"quality": 100},
        ):
            pictures.append(encode(image, "JPEG", **options))
    for mode in ("L", "LA", "RGB", "RGBA"):
        pictures += [encode(draw(random, mode, side), "PNG") for side in (3, 61)]
    grey, colour = draw(random, "L", 37), draw(random, "RGB", 61)
    pictures += [encode(image, "PNG") for image in (grey.convert("1"), grey.convert("I;16"))]
    pictures += [encode(colour.quantize(colours), "PNG") for colours in (2, 4, 16, 200)]
    return [*pictures, encode(colour, "WEBP")]


def draw(random: Random, mode: str, side: int) -> Image.Image:
    """Draw noise on a smooth ground."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    ground = Image.frombytes(mode, (4, 4), random.randbytes(16 * bands)).resize((side, side + 5))
    noise = Image.frombytes(mode, ground.size, random.randbytes(side * (side + 5) * bands))
    return Image.blend(ground, noise, 0.3)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def damage(random: Random, data: bytes) -> bytes:
    """Cut data off, flip bits, or replace, delete or insert some bytes."""
    damaged = bytearray(data)
    start = random.randrange(len(data))
    length = random.randrange(1, 60)
    kind = random.randrange(5)
    if kind == 0:
        del damaged[start:]
    elif kind == 1:
        damaged[start] ^= 1 << random.randrange(8)
    elif kind == 2:
        damaged[start : start + length] = bytes(length)
    elif kind == 3:
        del damaged[start : start + length]
    else:
        damaged[start:start] = random.randbytes(length)
    return bytes(damaged)


def test_pictures_are_verified_without_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = draw_pictures()
    decoded = [decode_picture(data, "here") for data in pictures]
    monkeypatch.setattr(validate, "decode_picture", lambda data, where: pytest.fail("decoded"))
    for data, image in zip(pictures[:-1], decoded, strict=False):  # the last one is a WebP
        verified = verify_picture(data, "here")
        assert isinstance(verified, validate.VerifiedPicture)
        assert isinstance(image, Image.Image)
        assert (verified.width, verified.height) == image.size


def test_the_verdict_on_damaged_pictures_is_that_of_decoding() -> None:
    # What decoding refuses must never pass; so each failure of the short way is decoded.
    random = Random(7)
    pictures = draw_pictures()
    refused = 0
    for _ in range(3000):
        data = damage(random, random.choice(pictures))
        decoded = decode_picture(data, "here")
        verified = verify_picture(data, "here")
        if isinstance(decoded, Problem):
            refused += 1
            assert verified == decoded
        else:
            assert isinstance(verified, validate.VerifiedPicture)
            assert (verified.width, verified.height) == decoded.size
    assert 1000 < refused < 3000


def test_an_interlaced_picture_is_decoded() -> None:
    # Pillow does not write them; this is 3 x 3 pixels in grey, of 4 passes with a row or more.
    rows = b"\0\1" + b"\0\2" + b"\0\3\4" + b"\0\5" + b"\0\6" + b"\0\7\7\7"
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">2I5B", 3, 3, 8, 0, 0, 0, 1)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        crc = zlib.crc32(kind + body)
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)
    verified = verify_picture(data, "here")
    assert isinstance(verified, validate.VerifiedPicture)
    assert verified.image.size == (3, 3)


@pytest.mark.parametrize("side", [600, 300, 80])
def test_a_picture_in_grey_is_reduced_while_enough_is_left(side: int) -> None:
    image = draw(Random(1), "RGB", 640)  # and 645 pixels high
    expected = {600: (640, 645), 300: (320, 323), 80: (80, 81)}[side]
    for form in ("JPEG", "PNG", "WEBP"):
        grey = decode_grey(encode(image, form), "here", side)
        assert isinstance(grey, Image.Image)
        assert (grey.mode, grey.size) == ("L", expected)
    assert isinstance(decode_grey(encode(image, "JPEG")[:-500], "here", side), Problem)
