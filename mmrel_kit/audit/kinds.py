# SPDX-License-Identifier: Apache-2.0
"""The kinds of findings, one entry each, in the order of an audit's report.

To add a check, copy an entry of `KINDS` and give it a name, a meaning and a check, which is one of:

- a query of `queries.py` that selects the questions concerned. The audit counts its findings and
  shows examples; with `can_drop`, `mmrel build --drop` deletes the questions that it marks;
- a function of `checks.py` that yields an example of each finding, for what SQL cannot express.

Then add a case to `PLANTED` in `tests/test_audit.py`: questions with the issue, and its name.
Reports, the card, `--drop` and the other tests take the kind from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mmrel_kit.audit import checks, queries
from mmrel_kit.audit.checks import AuditInput
from mmrel_kit.audit.pictures import MAX_DISTANCE

EXAMPLES = 5


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        name: what reports and `--drop` call it.
        meaning: what is wrong, in one line.
        check: a query that selects the questions concerned, or a function that yields an example of
            each finding.
        max_examples: how many examples a report has; None for all.
        can_drop: whether `build --drop` accepts the kind, which needs a query.
    """

    name: str
    meaning: str
    check: str | Callable[[AuditInput], Iterator[str]]
    max_examples: int | None = EXAMPLES
    can_drop: bool = False

    @property
    def action(self) -> str:
        """What the package does about the findings."""
        return f"kept; build --drop {self.name} leaves them out" if self.can_drop else "kept"


KINDS = (
    Kind(
        "repeated_across_splits",
        "the same question about the same picture in two splits",
        queries.REPEATED_ACROSS_SPLITS,
        can_drop=True,
    ),
    Kind(
        "repeated_within_split",
        "the same question about the same picture twice in a split",
        queries.REPEATED_WITHIN_SPLIT,
        can_drop=True,
    ),
    Kind(
        "same_picture_across_splits",
        "the same picture, by its path or its bytes, in two splits (dropped by path alone)",
        queries.SAME_PICTURE_ACROSS_SPLITS,
        can_drop=True,
    ),
    Kind(
        "similar_picture_across_splits",
        "pictures of two splits whose perceptual hashes differ in at most "
        f"{MAX_DISTANCE} of 64 bits",
        queries.SIMILAR_PICTURE_ACROSS_SPLITS,
    ),
    Kind(
        "no_partner", "a yes without a no, or a no without a yes", queries.NO_PARTNER, can_drop=True
    ),
    Kind(
        "group_without_yes",
        "several questions on one pair of objects, none answered yes",
        queries.GROUP_WITHOUT_YES,
        can_drop=True,
    ),
    Kind(
        "group_without_no",
        "several questions on one pair of objects, all answered yes",
        queries.GROUP_WITHOUT_NO,
        can_drop=True,
    ),
    Kind(
        "contradiction",
        "labels of one picture that exclude each other: the same triplet with both, "
        "a relation both ways, opposites",
        queries.CONTRADICTION,
        can_drop=True,
    ),
    Kind(
        "impossible_triplet",
        "a relation that its category cannot have by the taxonomy",
        queries.IMPOSSIBLE_TRIPLET,
        can_drop=True,
    ),
    Kind(
        "unknown_relation",
        "a comparative relation that the taxonomy does not list",
        queries.UNKNOWN_RELATION,
    ),
    Kind(
        "subject_is_object",
        "subject and object have one name, so that swapping them asks the same",
        queries.SUBJECT_IS_OBJECT,
        can_drop=True,
    ),
    Kind(
        "spelling_variant",
        "names of one object that are spelt in several ways",
        checks.find_spelling_variants,
    ),
    Kind(
        "unbalanced_cell",
        "one answer, yes or no, is clearly more frequent, so that guessing it beats chance",
        checks.find_unbalanced_cells,
        max_examples=None,
    ),
    Kind(
        "blind_baseline",
        "the question alone, without the picture, predicts its answer better than chance",
        checks.find_blind_baselines,
        max_examples=None,
    ),
)
DROPPABLE = tuple(kind.name for kind in KINDS if kind.can_drop)
