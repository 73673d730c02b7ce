# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a vision-language model with LoRA (TRL) on an export, and score it before and after.

    mmrel export --root RELEASE --format trl --out EXPORT
    mmrel finetune --model NAME --data EXPORT --root RELEASE --out TUNED

Both answer files are in --out beside the adapter. The table shows accuracy, precision, recall, F1,
the number of false positives and pair accuracy.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from datasets import load_dataset
from PIL import Image

import mmrel
from mmrel_kit.files import InputError, format_table, write_json_lines
from mmrel_kit.pictures.whole import check_picture
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.questions import is_of_task, make_report, read_pictures
from mmrel_kit.scoring.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "F1": "f1",
           "false positives": "fp", "pair accuracy": "pair_accuracy", "no answer": "no_answer_share"}  # fmt: skip


def finetune(args: argparse.Namespace) -> int:
    """Answer, train, save, answer again, print the table."""
    import torch
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    processor, model = load_model(args.model)
    release = mmrel.Release(args.root)
    rows = load_dataset(args.data, split="train")
    if missing := {"prompt", "completion", "image"} - set(rows.column_names):
        lacking = ", ".join(sorted(missing))
        raise InputError(f"--data {args.data}: expected an export of --format trl, it has no column {lacking}")
    check_processor(processor, rows[0]["image"].convert("RGB"), args.max_length)
    args.out.mkdir(parents=True, exist_ok=True)
    reports = {"before": score(model, processor, release, args, "before")}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(args.out),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            max_length=args.max_length,  # null: TRL's own 1024 would cut off the tokens of the picture
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            seed=args.seed,
            bf16=torch.cuda.is_available(),
        ),
        # Lazily, so that pictures are decoded when their batch comes.
        train_dataset=rows.with_transform(to_conversations),
        processing_class=processor,
        peft_config=LoraConfig(r=args.rank, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model(str(args.out))
    processor.save_pretrained(args.out)
    reports["after"] = score(trainer.model, processor, release, args, "after")
    print(make_table(reports))
    return 0


def load_model(name: str) -> tuple[Any, Any]:
    """Processor and model of a name on the Hub or a folder.

    Raises:
        InputError: there is none, or it does not take pictures.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name), AutoModelForImageTextToText.from_pretrained(name)
    except (OSError, ValueError) as error:
        told = str(error).strip().partition("\n")[0]
        raise InputError(f"--model {name}: expected a model that takes pictures and text: {told}") from None


def check_processor(processor: Any, image: Image.Image, max_length: int | None) -> None:
    """Find out, before any training, whether a picture's tokens fit.

    Raises:
        InputError: the tokenizer does not know the token of pictures, or a limit would cut pictures off; it names the
            setting to change.
    """
    tokenizer, token = processor.tokenizer, getattr(processor, "image_token", None)
    if not token or tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
        raise InputError(
            f"expected a tokenizer that holds the picture token, {token!r} is not in its vocabulary; "
            "set image_token in processor_config.json to one that is, or add it (tokenizer.add_tokens)"
        )
    text = processor.apply_chat_template(to_messages("?"), add_generation_prompt=True)
    needed = processor(images=[image], text=[text])["input_ids"]
    count = len(needed[0])
    if count > tokenizer.model_max_length:
        raise InputError(
            f"expected a tokenizer that holds a picture and a question, at least {count} tokens; model_max_length in "
            f"tokenizer_config.json is {tokenizer.model_max_length}; raise it"
        )
    if max_length is not None and count >= max_length:
        raise InputError(
            f"expected room for a picture and a question, at least {count} tokens; --max-length is {max_length}; "
            "raise it or leave it out"
        )


def to_messages(prompt: str) -> list[dict[str, Any]]:
    """What a chat template makes a prompt with a picture of."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def to_conversations(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The flat columns of an export as TRL wants them; the loss is taken of the completion alone."""
    return {
        "image": [image.convert("RGB") for image in rows["image"]],
        "prompt": [[{"role": "user", "content": text}] for text in rows["prompt"]],
        "completion": [[{"role": "assistant", "content": text}] for text in rows["completion"]],
    }


def score(model: Any, processor: Any, release: mmrel.Release, args: argparse.Namespace, when: str) -> dict[str, Any]:
    """Answer a split, write the answer file, and return the report."""
    answers = dict(answer(model, processor, release, args))
    write_json_lines(
        args.out / f"answers-{when}.jsonl",
        ({"question_id": name, "answer": text, "model": f"{args.model} {when}"} for name, text in answers.items()),
    )
    return make_report(release, args.config, args.split, answers, args.task, {"model": f"{args.model}, {when}"})


def answer(model: Any, processor: Any, release: mmrel.Release, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Answer every question of a split, greedily; the questions of a picture make a batch."""
    import torch

    model.eval()
    processor.tokenizer.padding_side = "left"
    for records, data in read_pictures(release, args.config, args.split):
        asked = [record for record in records if is_of_task(record, args.task)]
        if not asked:
            continue
        image = check_picture(data, f"{release.root}: picture {records[0]['image_id']!r}").convert("RGB")
        prompts = [to_messages(make_prompt(record)) for record in asked]
        texts = [processor.apply_chat_template(prompt, add_generation_prompt=True) for prompt in prompts]
        inputs = processor(images=[[image]] * len(asked), text=texts, padding=True, return_tensors="pt")
        limits = {"max_new_tokens": args.max_new_tokens, "do_sample": False}
        with torch.inference_mode():
            said = model.generate(**inputs.to(model.device), **limits)
        said = said[:, inputs["input_ids"].shape[1] :]
        texts = processor.batch_decode(said, skip_special_tokens=True)
        yield from zip((record["question_id"] for record in asked), texts, strict=True)


def make_table(reports: dict[str, dict[str, Any]]) -> str:
    """The reports before and after, beside each other for each cell and all, in percent."""
    rows = [["", "", "n", *COLUMNS]]
    for cell in (*reports["before"]["by"]["cell"], None):
        for when, report in reports.items():
            figures = report["by"]["cell"][cell] if cell else report
            cells = [shown(figures[name]) for name in COLUMNS.values()]
            rows.append([cell or "all", when, str(figures["n"]), *cells])
    return format_table(rows)
