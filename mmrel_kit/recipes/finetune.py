# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a vision-language model with LoRA (TRL) on an export, and score it before and after.

    mmrel export --root RELEASE --format trl --out EXPORT
    mmrel finetune --model NAME --data EXPORT --root RELEASE --out TUNED

Both answer files are written to --out beside the adapter. The table shows accuracy, precision,
recall, F1, the number of false positives and pair accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import load_dataset
from PIL import Image

import mmrel
from mmrel_kit.files import InputError, format_table, write_json_lines
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.questions import make_report, matches_task, read_pictures
from mmrel_kit.scoring.report import Selection
from mmrel_kit.scoring.text import shown

# Heading -> figure of the report.
COLUMNS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
    "false positives": "fp",
    "pair accuracy": "pair_accuracy",
    "no answer": "no_answer_share",
}


class Training(NamedTuple):
    """Settings of the training.

    Attributes:
        rank: rank of LoRA's matrices.
        max_length: maximum tokens of a sample, with its picture; None for no limit.
        seed: seed of LoRA's matrices and of the order of samples.
    """

    steps: int = 500
    batch_size: int = 8
    learning_rate: float = 1e-4
    rank: int = 16
    max_length: int | None = None
    seed: int = 0


class Evaluation(NamedTuple):
    """The questions that the model answers before and after training.

    Attributes:
        chosen: the questions; `split` must be one split.
        max_new_tokens: maximum tokens of an answer.
    """

    release: mmrel.Release
    chosen: Selection
    max_new_tokens: int = 16


def finetune(
    name: str, data: str, out: Path, evaluation: Evaluation, training: Training
) -> dict[str, dict[str, Any]]:
    """Answer, train, save, and answer again; return the reports `before` and `after`.

    `name` is a model on the Hub or a folder, `data` an export for TRL, and `out` the folder for the
    adapter and both answer files.

    Raises:
        InputError: the model or the export does not fit.
    """
    processor, model = load_model(name)
    rows = load_dataset(data, split="train")
    missing = sorted({"prompt", "completion", "image"} - set(rows.column_names))
    if missing:
        wanted = "expected an export of --format trl"
        raise InputError(f"--data {data}: {wanted}, it has no column {', '.join(missing)}")
    check_processor(processor, rows[0]["image"].convert("RGB"), training.max_length)
    out.mkdir(parents=True, exist_ok=True)
    reports = {}
    for when in ("before", "after"):
        if when == "after":
            model = _train(model, processor, rows, out, training)
        answers = dict(answer(model, processor, evaluation))
        _write_answers(out / f"answers-{when}.jsonl", answers, f"{name} {when}")
        run = {"model": f"{name}, {when}"}
        reports[when] = make_report(evaluation.release, evaluation.chosen, answers, run)
    return reports


def load_model(name: str) -> tuple[Any, Any]:
    """Return the processor and the model of a name on the Hub or a folder.

    Raises:
        InputError: there is no such model, or it does not accept pictures.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(name)
        return processor, AutoModelForImageTextToText.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        wanted = "expected a model that takes pictures and text"
        raise InputError(f"--model {name}: {wanted}: {reason}") from None


def check_processor(processor: Any, image: Image.Image, max_length: int | None) -> None:
    """Check, before any training, that the tokens of a picture fit.

    Raises:
        InputError: the tokenizer has no token for pictures, or a limit would truncate pictures; the
            error names the setting to change.
    """
    tokenizer = processor.tokenizer
    token = getattr(processor, "image_token", None)
    if not token or tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
        wanted = "expected a tokenizer that holds the picture token"
        advice = "set image_token in processor_config.json to one that is, or add it"
        got = f"{token!r} is not in its vocabulary"
        raise InputError(f"{wanted}, {got}; {advice} (tokenizer.add_tokens)")
    text = processor.apply_chat_template(to_messages("?"), add_generation_prompt=True)
    count = len(processor(images=[image], text=[text])["input_ids"][0])
    needed = f"for a picture and a question, at least {count} tokens"
    if count > tokenizer.model_max_length:
        where = "model_max_length in tokenizer_config.json"
        got = f"{where} is {tokenizer.model_max_length}"
        raise InputError(f"expected a tokenizer with room {needed}; {got}; raise it")
    if max_length is not None and count >= max_length:
        got = f"--max-length is {max_length}"
        raise InputError(f"expected room {needed}; {got}; raise it or leave it out")


def to_messages(prompt: str) -> list[dict[str, Any]]:
    """Return a prompt with a picture as messages for a chat template."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def to_conversations(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Convert the flat columns of an export for TRL, which trains on the completions only."""
    return {
        "image": [image.convert("RGB") for image in rows["image"]],
        "prompt": [[{"role": "user", "content": text}] for text in rows["prompt"]],
        "completion": [[{"role": "assistant", "content": text}] for text in rows["completion"]],
    }


def answer(model: Any, processor: Any, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield question_id and answer, decoded greedily; the questions about a picture are a batch."""
    import torch

    release, chosen, max_new_tokens = evaluation
    model.eval()
    processor.tokenizer.padding_side = "left"
    for records, data in read_pictures(release, chosen.config, chosen.split):
        asked = [record for record in records if matches_task(record, chosen.task)]
        if not asked:
            continue
        where = f"{release.root}: picture {records[0]['image_id']!r}"
        image = check_picture(data, where).convert("RGB")
        prompts = []
        for record in asked:
            messages = to_messages(make_prompt(record))
            prompts.append(processor.apply_chat_template(messages, add_generation_prompt=True))
        images = [[image]] * len(asked)
        inputs = processor(images=images, text=prompts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            inputs = inputs.to(model.device)
            output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        replies = output[:, inputs["input_ids"].shape[1] :]
        texts = processor.batch_decode(replies, skip_special_tokens=True)
        for record, text in zip(asked, texts, strict=True):
            yield record["question_id"], text


def make_table(reports: dict[str, dict[str, Any]]) -> str:
    """Format the reports side by side, for each cell and all, in percent."""
    rows = [["", "", "n", *COLUMNS]]
    for cell in (*reports["before"]["by"]["cell"], None):
        for when, report in reports.items():
            figures = report["by"]["cell"][cell] if cell else report
            cells = [shown(figures[name]) for name in COLUMNS.values()]
            rows.append([cell or "all", when, str(figures["n"]), *cells])
    return format_table(rows)


def _train(model: Any, processor: Any, rows: Any, out: Path, training: Training) -> Any:
    """Train LoRA's matrices, save them in `out`, and return the tuned model."""
    import torch
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            max_steps=training.steps,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            # TRL's default of 1024 would truncate the tokens of the picture.
            max_length=training.max_length,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            seed=training.seed,
            bf16=torch.cuda.is_available(),
        ),
        # Decode the pictures of a batch when it is needed.
        train_dataset=rows.with_transform(to_conversations),
        processing_class=processor,
        peft_config=LoraConfig(r=training.rank, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model(str(out))
    processor.save_pretrained(out)
    return trainer.model


def _write_answers(path: Path, answers: dict[str, str], model: str) -> None:
    rows = [{"question_id": id_, "answer": text, "model": model} for id_, text in answers.items()]
    write_json_lines(path, rows)
