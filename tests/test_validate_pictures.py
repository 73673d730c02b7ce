"""The one check of a picture: an image, or what is wrong with it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from mmrel_kit.files import InputError, Problem
from mmrel_kit.pictures.validate import check_picture, decode_picture
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
