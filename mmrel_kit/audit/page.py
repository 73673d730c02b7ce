# SPDX-License-Identifier: Apache-2.0
"""Words an audit: a page in the card, a list on the screen."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mmrel_kit.audit.findings import KINDS
from mmrel_kit.card.readme import Generated, escape, fill_template, read_generated

if TYPE_CHECKING:
    from mmrel_kit.audit.findings import Audit
    from mmrel_kit.questions.published import Comparison

MEANINGS = {
    **{name: kind.meaning for name, kind in KINDS.items()},
    "spelling_variant": "names of one object that are spelt in several ways",
    "unbalanced_cell": "yes and no are not about as many, so that one of them is the better guess",
    "blind_baseline": "the question alone, without the picture, gives away more than a coin does",
}
SHOWN = 2  # examples of a finding in the card


def make_blocks(audit: Audit) -> dict[str, str]:
    """Return the blocks of a card that an audit fills, in Markdown: the known issues, and the sizes."""
    return {"audit": make_page(audit), "sizes": make_sizes(audit)}


def make_sizes(audit: Audit) -> str:
    """Return the paper's numbers of questions beside those of the release, in Markdown."""
    lines = []
    for table in audit.tables:
        lines += [f"<details><summary>{table.title}</summary>", "", *_make_table(table), "", "</details>", ""]
    return "\n".join(lines).strip()


def make_page(audit: Audit) -> str:
    """Return the known issues of a release, in Markdown."""
    lines = ["| finding | count | what it means | what is done about it |", "| --- | ---: | --- | --- |"]
    for finding in audit.findings:
        lines.append(f"| `{finding.kind}` | {finding.count:,} | {MEANINGS[finding.kind]} | {finding.action} |")
    if not audit.findings:
        lines = ["No issues were found."]
    lines += ["", "For example:", ""] if audit.findings else []
    lines += [f"- `{f.kind}`: {escape(example)}" for f in audit.findings for example in f.examples[:SHOWN]]
    lines += ["", *(f"Note: {remark}." for remark in audit.remarks)]
    return "\n".join(lines).strip()


def make_list(audit: Audit) -> str:
    """The findings as JSON: a list of kind, count, examples, action."""
    return json.dumps([asdict(finding) for finding in audit.findings], indent=2, ensure_ascii=False)


def make_report(audit: Audit) -> str:
    """The audit as text for a terminal."""
    lines = []
    for finding in audit.findings:
        lines += [f"{finding.kind}: {finding.count} ({finding.action})", f"  {MEANINGS[finding.kind]}"]
        lines += [f"  {example}" for example in finding.examples]
    for table in audit.tables:
        lines += ["", table.title, f"{'':<36}{'paper (k)':>10}{'here':>10}{'difference':>12}"]
        lines += [f"{row.name:<36}{row.paper:>10.2f}{row.here:>10,}{row.difference:>+12,}" for row in table.lines]
    return "\n".join([*lines, "", *(f"note: {remark}" for remark in audit.remarks)])


def renew_card(card: str, audit: Audit) -> str:
    """Return a release's card with the blocks of another audit."""
    generated = read_generated(card)
    blocks = {**generated.blocks, **make_blocks(audit)}
    return fill_template(card, Generated(generated.front, blocks), of_project=True)


def _make_table(table: Comparison) -> list[str]:
    lines = ["| questions | paper (thousands) | this release |", "| --- | ---: | ---: |"]
    return lines + [f"| {row.name} | {row.paper:.2f} | {row.here:,} |" for row in table.lines]
