# SPDX-License-Identifier: Apache-2.0
"""Render an audit: Markdown for the card, text for a terminal, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from mmrel_kit.audit.findings import Audit
from mmrel_kit.audit.kinds import KINDS
from mmrel_kit.files import escape_markdown, format_markdown, format_table

MEANINGS = {kind.name: kind.meaning for kind in KINDS}
CARD_EXAMPLES = 2  # of a kind of finding


def render_blocks(audit: Audit) -> dict[str, str]:
    """Return the blocks of a card that an audit fills, in Markdown: `audit` and `sizes`."""
    return {"audit": _render_findings(audit), "sizes": _render_sizes(audit)}


def render_json(audit: Audit) -> str:
    """Return the findings as a JSON array of objects with kind, count, examples and action."""
    findings = [asdict(finding) for finding in audit.findings]
    return json.dumps(findings, indent=2, ensure_ascii=False)


def render_text(audit: Audit) -> str:
    """Return the audit as text for a terminal."""
    lines = []
    for finding in audit.findings:
        lines.append(f"{finding.kind}: {finding.count} ({finding.action})")
        lines.append(f"  {MEANINGS[finding.kind]}")
        for example in finding.examples:
            lines.append(f"  {example}")
    for table in audit.tables:
        rows = [("", "paper (k)", "here", "difference")]
        for row in table.rows:
            numbers = (f"{row.published:.2f}", f"{row.here:,}", f"{row.difference:+,}")
            rows.append((row.name, *numbers))
        lines += ["", table.title, format_table(rows)]
    lines.append("")
    for remark in audit.remarks:
        lines.append(f"note: {remark}")
    return "\n".join(lines)


def _render_findings(audit: Audit) -> str:
    lines = ["No issues were found."]
    if audit.findings:
        rows = [("finding", "count", "what it means", "what is done about it")]
        for finding in audit.findings:
            meaning = MEANINGS[finding.kind]
            rows.append((f"`{finding.kind}`", f"{finding.count:,}", meaning, finding.action))
        lines = [format_markdown(rows, "lrll"), "", "For example:", ""]
        for finding in audit.findings:
            for example in finding.examples[:CARD_EXAMPLES]:
                lines.append(f"- `{finding.kind}`: {escape_markdown(example)}")
    lines.append("")
    for remark in audit.remarks:
        lines.append(f"Note: {remark}.")
    return "\n".join(lines).strip()


def _render_sizes(audit: Audit) -> str:
    lines = []
    for table in audit.tables:
        rows = [("questions", "paper (thousands)", "this release")]
        for row in table.rows:
            rows.append((row.name, f"{row.published:.2f}", f"{row.here:,}"))
        lines += [f"<details><summary>{table.title}</summary>", "", format_markdown(rows, "lrr")]
        lines += ["", "</details>", ""]
    return "\n".join(lines).strip()
