# SPDX-License-Identifier: Apache-2.0
"""Score answers that need no picture: what the questions alone give away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from relation_accuracy import SAID, Question, Scores

# The split from which a blind guesser may learn when another is scored.
LEARN_FROM = {"train": "test", "test": "train", "adversarial": "train"}


def blind_baselines(
    asked: Mapping[str, Question],
    learnt: Mapping[str, Question] | None = None,
) -> dict[str, Scores]:
    """Score answers without a picture: always yes, always no, each relation's majority answer.

    Args:
        asked: the questions; open-ended ones are passed over.
        learnt: questions of another split, from which the majority answer of each relation is
            learnt. A relation that is not among them, or is even, gets the majority of all, and yes
            where that is even too. Without `learnt` there is no third baseline.

    Returns:
        "always yes", "always no", "majority by relation" -> scores.
    """
    questions = {name: question for name, question in asked.items() if question.label != "open"}
    guesses = {
        "always yes": ["yes"] * len(questions),
        "always no": ["no"] * len(questions),
    }
    if learnt:
        guesses["majority by relation"] = _guess_by_relation(questions, learnt)
    baselines = {}
    for name, said in guesses.items():
        scores = Scores()
        scores.keep(list(questions), list(questions.values()), [SAID[word] for word in said])
        baselines[name] = scores
    return baselines


def _guess_by_relation(
    questions: Mapping[str, Question],
    learnt: Mapping[str, Question],
) -> list[str]:
    """Return the answer that most of the learnt questions about the same relation have."""
    balance: Counter[str | None] = Counter()  # more than 0: yes; None counts all relations
    for question in learnt.values():
        if question.label != "open":
            vote = 1 if question.label == "yes" else -1
            balance[question.group.relation] += vote
            balance[None] += vote
    majority = "yes" if balance[None] >= 0 else "no"
    guesses = []
    for question in questions.values():
        votes = balance[question.group.relation]
        if votes > 0:
            guesses.append("yes")
        elif votes < 0:
            guesses.append("no")
        else:
            guesses.append(majority)
    return guesses
