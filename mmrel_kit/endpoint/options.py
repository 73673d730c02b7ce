# SPDX-License-Identifier: Apache-2.0
"""Command-line options of commands that send requests to an endpoint."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Literal

from mmrel_kit.endpoint.batch import Budget, Endpoint, Prices
from mmrel_kit.files import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `make_endpoint` reads; the parser needs an option --out."""
    group = parser.add_argument_group(
        "endpoint", "the secret of the endpoint is read from OPENAI_API_KEY"
    )
    add: Any = group.add_argument
    add("--base-url", required=True, metavar="URL", help="for example http://127.0.0.1:8000/v1")
    add("--model", required=True, metavar="NAME", help="name of the model")
    store = "stores all replies, so that no request is repeated (OUT.store.sqlite, beside --out)"
    add("--store", type=Path, metavar="FILE", help=store)
    parameter = "field of the request, such as temperature=0; NAME=null omits a default"
    add("--parameter", action="append", default=[], metavar="NAME=VALUE", help=parameter)
    add("--seed", type=int, metavar="N", help="sent with each request, if given")
    add("--concurrency", type=int, default=8, metavar="N", help="requests in flight (%(default)s)")
    add("--timeout", type=float, default=120, metavar="S", help="seconds per reply (%(default)s)")
    add("--retries", type=int, default=5, metavar="N", help="tries after the first (%(default)s)")
    for unit in ("requests", "tokens"):
        limit = f"maximum {unit} of the model over all runs that share the store"
        add(f"--max-{unit}", type=int, metavar="N", help=limit)
    names, prices = ("SENT", "RECEIVED"), "prices of a million tokens"
    add("--prices", type=float, nargs=2, default=(0, 0), metavar=names, help=prices)


def make_endpoint(
    args: argparse.Namespace,
    kind: Literal["chat", "images"] = "chat",
    defaults: dict[str, Any] | None = None,
) -> Endpoint:
    """Make the endpoint that the options of `add_arguments` describe.

    Options may replace or omit the parameters in `defaults`.

    Raises:
        InputError: an option or the store is invalid.
    """
    parameters = (defaults or {}) | dict(map(_parse_parameter, args.parameter))
    if args.seed is not None and parameters.setdefault("seed", args.seed) != args.seed:
        raise InputError(
            f"expected one seed, got --seed {args.seed} and --parameter seed={parameters['seed']}"
        )
    return Endpoint(
        args.base_url,
        args.model,
        args.store or make_store_path(args.out),
        api_key=os.environ.get("OPENAI_API_KEY"),
        parameters={name: value for name, value in parameters.items() if value is not None},
        kind=kind,
        concurrency=args.concurrency,
        timeout=args.timeout,
        retries=args.retries,
        budget=Budget(args.max_requests, args.max_tokens),
        prices=Prices(*args.prices),
    )


def make_store_path(out: Path) -> Path:
    """Return the path of an output file's default store, which lies beside it."""
    return out.with_name(f"{out.name}.store.sqlite")


def _parse_parameter(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not name or not mark:
        raise InputError(f"expected --parameter NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
