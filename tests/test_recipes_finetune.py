"""Fine-tuning for real, on the CPU, with two tiny architectures: trains, saves, answers, tells before from after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import relation_accuracy
from mmrel_kit import cli
from tests.conftest import REPOSITORY
from tests.helpers.fake_model import read_records

pytestmark = pytest.mark.recipes


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "trl"
    assert cli.main(["export", "--root", str(REPOSITORY), "--out", str(out), "--drop-leaks"]) == 0
    return out


def run(folder: Path, exported: Path, model: Path, *more: str) -> int:
    arguments = [
        "--model",
        str(model),
        "--data",
        str(exported),
        "--out",
        str(folder / "tuned"),
        "--config",
        "real",
    ]
    return cli.main(["finetune", *arguments, "--max-new-tokens", "2", *more])


@pytest.mark.parametrize("architecture", ["llava", "idefics3"])
def test_it_trains_saves_answers_and_shows_what_changed(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str], architecture: str
) -> None:
    from tests.helpers.tiny_models import make_model

    model = make_model(architecture, tmp_path / "model")
    steps = ("--steps", "2", "--batch-size", "4", "--learning-rate", "0.05")
    assert run(tmp_path, exported, model, *steps) == 0
    told = capsys.readouterr().out
    table = told[told.index("  n  accuracy") :]
    assert "false positives" in table
    assert [line.split()[:2] for line in table.splitlines()[-2:]] == [
        ["all", "before"],
        ["all", "after"],
    ]
    assert (tmp_path / "tuned" / "adapter_model.safetensors").exists()
    said: dict[str, Any] = {}
    for when, line in zip(("before", "after"), table.splitlines()[-2:], strict=True):
        rows = [
            json.loads(row)
            for row in (tmp_path / "tuned" / f"answers-{when}.jsonl").read_text().splitlines()
        ]
        said[when] = [row["answer"] for row in rows]
        report = relation_accuracy.compute(rows, read_records(REPOSITORY, "test", "real"))
        assert line.split()[2] == str(report["n"]) == "28"
        assert line.split()[7] == str(report["fp"])
    assert said["before"] != said["after"]
    _load_again(tmp_path / "tuned", model)


def test_a_limit_that_cuts_pictures_off_is_named(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoProcessor

    from tests.helpers.tiny_models import make_model

    model = make_model("llava", tmp_path / "model")
    assert run(tmp_path, exported, model, "--max-length", "12") == 1
    assert "--max-length is 12; raise it or leave it out" in capsys.readouterr().err
    processor = AutoProcessor.from_pretrained(model)
    processor.tokenizer.model_max_length = 10
    processor.save_pretrained(model)
    assert run(tmp_path, exported, model) == 1
    told = capsys.readouterr().err
    assert "model_max_length in tokenizer_config.json is 10; raise it" in told
    assert not (tmp_path / "tuned").exists()


def test_a_tokenizer_without_the_picture_token_is_named(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoProcessor

    from tests.helpers.tiny_models import SPECIAL, make_model, make_tokenizer

    model = make_model("llava", tmp_path / "model")
    processor = AutoProcessor.from_pretrained(model)
    processor.tokenizer = make_tokenizer([token for token in SPECIAL if token != "<image>"])
    processor.save_pretrained(model)
    assert run(tmp_path, exported, model) == 1
    assert "set image_token in processor_config.json" in capsys.readouterr().err


def test_no_model_is_one_line(
    tmp_path: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, exported, tmp_path / "none") == 1
    assert "expected a model that takes pictures and text" in capsys.readouterr().err


def test_an_export_of_another_format_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.helpers.tiny_models import make_model

    arguments = [
        "--root",
        str(REPOSITORY),
        "--format",
        "messages",
        "--out",
        str(tmp_path / "messages"),
    ]
    assert cli.main(["export", *arguments, "--drop-leaks"]) == 0
    assert run(tmp_path, tmp_path / "messages", make_model("llava", tmp_path / "model")) == 1
    assert (
        "expected an export of --format trl, it has no column completion, image, prompt"
        in capsys.readouterr().err
    )


def _load_again(folder: Path, model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(model), folder)
    AutoProcessor.from_pretrained(folder)
