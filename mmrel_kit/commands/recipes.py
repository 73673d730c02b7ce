# SPDX-License-Identifier: Apache-2.0
"""The verbs `answer`, `export`, `finetune` and `cluster`."""

from __future__ import annotations

import argparse
from pathlib import Path

import mmrel
from mmrel_kit import endpoint
from mmrel_kit.commands.options import Verbs, add_questions, add_release, parse_path, parse_positive
from mmrel_kit.commands.progress import count_archive_bytes, make_bar
from mmrel_kit.commands.release import print_step
from mmrel_kit.files import PROJECT, InputError
from mmrel_kit.recipes import answer as answering
from mmrel_kit.recipes import cluster as clusters
from mmrel_kit.recipes import export as exporting
from mmrel_kit.recipes import finetune as tuning
from mmrel_kit.scoring.report import Selection

RESUMES_ANSWER = "every reply is kept; the same command resumes where this one stopped"
RESUMES_CLUSTER = "finished shards are kept; the same command writes the others"


def answer(args: argparse.Namespace) -> int:
    """Ask a model behind an OpenAI-compatible endpoint every question of a split, and score it."""
    target = answering.Target(
        model=args.model,
        base_url=args.base_url,
        connect=lambda: endpoint.make_endpoint(args, defaults=answering.DECODING),
    )
    output = answering.Output(args.out, args.json, args.store)
    return answering.answer(_open_release(args), _select(args), target, output)


def export(args: argparse.Namespace) -> int:
    """Write the train split in a trainer's format, checked for leaks into test and adversarial."""
    rules = exporting.ExportRules(args.config, args.task, args.drop_leaks, args.allow_triplets)
    with make_bar(count_archive_bytes(args.root)) as bar:
        exported = exporting.export(args.root, args.out, args.format, rules, bar.update, print_step)
        print(exported)
    return 0


def finetune(args: argparse.Namespace) -> int:
    """Fine-tune a vision-language model with LoRA (TRL), and score it before and after."""
    training = tuning.Training(
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        rank=args.rank,
        max_length=args.max_length,
        seed=args.seed,
    )
    evaluation = tuning.Evaluation(_open_release(args), _select(args), args.max_new_tokens)
    reports = tuning.finetune(args.model, args.data, args.out, evaluation, training)
    print(tuning.make_table(reports))
    return 0


def cluster(args: argparse.Namespace) -> int:
    """Run the shares of a build on many machines: datatrove's local, Slurm and Ray executors."""
    options = {"workers": args.workers}
    if args.partition is not None:
        options["partition"] = args.partition
    if args.time is not None:
        options["time"] = args.time
    if args.engine == "slurm" and None in (args.partition, args.time):
        raise InputError("slurm: expected --partition and --time")
    arguments = getattr(args, "arguments", None)
    if not arguments:
        raise InputError("expected the arguments of mmrel build after --, found none")
    clusters.make_executor(args.engine, arguments, args.tasks, args.logs, **options).run()
    return 0


def _open_release(args: argparse.Namespace) -> mmrel.Release:
    return mmrel.Release(mmrel.find_release(args.root, args.repo_id, args.revision))


def _select(args: argparse.Namespace) -> Selection:
    return Selection(args.config, args.split, args.task)


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs."""
    _add_answer(verbs)
    _add_export(verbs)
    _add_finetune(verbs)
    _add_cluster(verbs)


def _add_answer(verbs: Verbs) -> None:
    example = "--root mmrel --base-url http://127.0.0.1:8000/v1 --model NAME --out answers.jsonl"
    parser = verbs.add("answer", answer, example, RESUMES_ANSWER)
    add_release(parser)
    add_questions(parser, mmrel.SPLITS)
    add = parser.add_argument
    add("--out", type=parse_path, required=True, metavar="FILE", help="answer file, JSON lines")
    add("--json", type=parse_path, metavar="FILE", help="write the report to this file")
    endpoint.add_arguments(parser)


def _add_export(verbs: Verbs) -> None:
    parser = verbs.add("export", export, "--root mmrel --format trl --drop-leaks --out export")
    add_questions(parser, ())
    add = parser.add_argument
    root = "folder of a release (the drawn sample)"
    add("--root", default=str(PROJECT), metavar="RELEASE", help=root)
    add("--format", choices=exporting.FORMATS, default="trl", help="(%(default)s)")
    add("--out", type=parse_path, required=True, metavar="FOLDER", help="folder to write")
    leaks = "leave out train questions that share a picture or triplet with test or adversarial"
    add("--drop-leaks", action="store_true", help=leaks)
    triplets = "keep train questions that share only a triplet with test or adversarial"
    add("--allow-triplets", action="store_true", help=triplets)


def _add_finetune(verbs: Verbs) -> None:
    example = "--model NAME --data export --root mmrel --out tuned"
    parser = verbs.add("finetune", finetune, example)
    add = parser.add_argument
    add("--model", required=True, help="name on the Hub, or a folder")
    add("--data", required=True, metavar="EXPORT", help="folder of mmrel export --format trl")
    add("--out", type=parse_path, required=True, metavar="FOLDER", help="adapter and answer files")
    add_release(parser)
    add_questions(parser, mmrel.SPLITS)
    add("--steps", type=int, default=500, help="training steps (%(default)s)")
    add("--batch-size", type=int, default=8, help="samples per step (%(default)s)")
    add("--learning-rate", type=float, default=1e-4, help="(%(default)s)")
    add("--rank", type=int, default=16, help="rank of LoRA (%(default)s)")
    add("--max-length", type=int, help="maximum tokens of a sample with its picture (no limit)")
    add("--max-new-tokens", type=int, default=16, help="maximum tokens of an answer (%(default)s)")
    add("--seed", type=int, default=0, help="seed of the training (%(default)s)")


def _add_cluster(verbs: Verbs) -> None:
    example = (
        "slurm --tasks 64 --partition cpu --time 02:00:00 -- "
        "--annotations json --images pictures --out release"
    )
    parser = verbs.add("cluster", cluster, example, RESUMES_CLUSTER)
    parser.usage = f"{parser.prog} ENGINE --tasks N [OPTION ...] -- ARGUMENTS OF mmrel build"
    add = parser.add_argument
    add("engine", choices=clusters.ENGINES, help="executor: %(choices)s")
    tasks = "number of shares, at most that of shards"
    add("--tasks", type=parse_positive, required=True, metavar="N", help=tasks)
    add("--workers", type=int, default=-1, metavar="N", help="concurrent tasks (-1: all)")
    logs = "folder for logs (%(default)s)"
    add("--logs", type=parse_path, default=Path("mmrel-logs"), metavar="DIR", help=logs)
    add("--partition", help="Slurm's partition for the jobs")
    add("--time", help="Slurm's time limit of a job, for example 02:00:00")
