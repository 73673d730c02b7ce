"""Having pictures drawn, and the triplets that are to be drawn."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmrel_kit.endpoint import Endpoint
from mmrel_kit.files import InputError, write_json_lines
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.model.generate import Drawing, generate, make_prompt, read_drawings
from mmrel_kit.semidc.model.propose import read_prompt
from tests.helpers.stub_endpoint import StubEndpoint


def test_drawn_pictures_are_kept_by_their_content(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (32, 32), "gold").save(png, "PNG")
    triplet = Triplet("crocodile", "on", "desert")
    drawings = [
        Drawing("spatial", triplet, style) for style in ("watercolor", "abstract", "oil-painting")
    ]
    drops: Counter[str] = Counter()
    with StubEndpoint(
        lambda request: b"no picture" if "abstract" in request.prompt else png.getvalue()
    ) as stub:
        client = Endpoint(stub.url, "painter", tmp_path / "r.sqlite", kind="images", concurrency=1)
        proposals = generate(drawings, client, tmp_path, drops)
        client.close()
    assert [Path(p.image_id).name.partition("_")[2] for p in proposals] == [
        "oil-painting.png",
        "watercolor.png",
    ]
    assert {(tmp_path / p.image_id).read_bytes() for p in proposals} == {png.getvalue()}
    assert drops == {"reply: no picture (PNG, JPEG or WebP)": 1}
    assert (
        "in this manner: watercolor. It shows a crocodile and a desert" in stub.requests[0].prompt
    )
    assert stub.requests[0].prompt.endswith("this must be plainly true: crocodile on desert.")


def test_triplets_to_draw_are_read_whole_or_refused_by_their_line(tmp_path: Path) -> None:
    # A picture of "pandbear" was asked for.
    path = tmp_path / "t.jsonl"
    drawing = {"category": "action", "subject": "a panda bear", "relation": "hold"}
    write_json_lines(path, [{**drawing, "object": "pizza box"}])
    (read,) = read_drawings(path, ["watercolor"])
    assert read.triplet == ("panda bear", "hold", "pizza box")
    assert "It shows a panda bear and a pizza box" in make_prompt(read_prompt("image-1"), read)
    write_json_lines(path, [{**drawing, "relation": "above", "object": "cup"}])
    with pytest.raises(InputError, match=r"t\.jsonl:1: .*, got the spatial word 'above'"):
        list(read_drawings(path, []))
