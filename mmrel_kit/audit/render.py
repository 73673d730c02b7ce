# SPDX-License-Identifier: Apache-2.0
"""Word an audit: blocks of Markdown for the card, text for a terminal, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mmrel_kit.audit.findings import KINDS
from mmrel_kit.files import escape_markdown, format_table

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


def render_blocks(audit: Audit) -> dict[str, str]:
    """Return the blocks of a card that an audit fills, in Markdown: known issues, and sizes."""
    return {"audit": _render_findings(audit), "sizes": _render_sizes(audit)}


def _render_sizes(audit: Audit) -> str:
    """Return the paper's numbers of questions beside those of the release, in Markdown."""
    lines = []
    for table in audit.tables:
        lines += [f"<details><summary>{table.title}</summary>", "", *_make_table(table)]
        lines += ["", "</details>", ""]
    return "\n".join(lines).strip()


def _render_findings(audit: Audit) -> str:
    """Return the known issues of a release, in Markdown."""
    lines = [
        "| finding | count | what it means | what is done about it |",
        "| --- | ---: | --- | --- |",
    ]
    for finding in audit.findings:
        kind, meaning = finding.kind, MEANINGS[finding.kind]
        lines.append(f"| `{kind}` | {finding.count:,} | {meaning} | {finding.action} |")
    if audit.findings:
        lines += ["", "For example:", ""]
    else:
        lines = ["No issues were found."]
    for finding in audit.findings:
        for example in finding.examples[:SHOWN]:
            lines.append(f"- `{finding.kind}`: {escape_markdown(example)}")
    lines += ["", *(f"Note: {remark}." for remark in audit.remarks)]
    return "\n".join(lines).strip()


def render_json(audit: Audit) -> str:
    """Return the findings as JSON: a list of kind, count, examples, action."""
    findings = [asdict(finding) for finding in audit.findings]
    return json.dumps(findings, indent=2, ensure_ascii=False)


def render_text(audit: Audit) -> str:
    """Return the audit as text for a terminal."""
    lines = []
    for finding in audit.findings:
        lines.append(f"{finding.kind}: {finding.count} ({finding.action})")
        lines.append(f"  {MEANINGS[finding.kind]}")
        lines += [f"  {example}" for example in finding.examples]
    for table in audit.tables:
        rows = [("", "paper (k)", "here", "difference")]
        for row in table.rows:
            rows.append((row.name, f"{row.published:.2f}", f"{row.here:,}", f"{row.difference:+,}"))
        lines += ["", table.title, format_table(rows)]
    return "\n".join([*lines, "", *(f"note: {remark}" for remark in audit.remarks)])


def _make_table(table: Comparison) -> list[str]:
    lines = ["| questions | paper (thousands) | this release |", "| --- | ---: | ---: |"]
    return lines + [f"| {row.name} | {row.published:.2f} | {row.here:,} |" for row in table.rows]
