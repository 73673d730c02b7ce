# SPDX-License-Identifier: Apache-2.0
"""Turns verified triplets into questions: yes, its twins that are false, and the open one.

What is false must be known to be: a swapped spatial or comparative triplet is false because the other is true; another
verb is false only where people said so, of this picture, on the same page on which they verify everything else.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.questions.records import (
    Record,
    Triplet,
    make_pair_id,
    make_question,
    parse_image_path,
)
from mmrel_kit.questions.taxonomy import find_misfit, read_taxonomy
from mmrel_kit.semidc.items import Item, Proposal
from mmrel_kit.semidc.words import are_synonyms, spoken_article

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mmrel_kit.semidc.people.store import Decision, Project

# What people found false of a picture in one category, by subject and object.
FalseTwins = defaultdict[tuple[str, str], deque["Verified"]]
INSTRUCTION = "Please answer with one word."


class Verified(NamedTuple):
    """A settled item: what is true in its stead (null: nothing is known to be), and who said so."""

    item: Item
    truth: Triplet | None
    verification: dict[str, Any]


class Questions(NamedTuple):
    """Records; what became none, by reason; action triplets whose false verb people have not confirmed yet."""

    records: list[Record]
    drops: Counter[str]
    awaiting_negative: list[Verified]


def read_verified(project: Project) -> list[Verified]:
    """Every settled item with what people agreed on."""
    by_item: dict[int, list[Decision]] = defaultdict(list)
    for decision in project.decisions():
        if decision.verdict != "skip":
            by_item[decision.item].append(decision)
    return [settle(item, by_item[item.id]) for item in project.items("settled")]


def settle(item: Item, decisions: Sequence[Decision]) -> Verified:
    """What the decisions on a settled item come to: the adjudicator's where there is one, else what all said."""
    last = next((d for d in decisions if d.adjudicates), decisions[-1])
    agreed = {
        d.annotator for d in decisions if (d.verdict, d.triplet) == (last.verdict, last.triplet)
    }
    verification = {
        "annotators": sorted({d.annotator for d in decisions}),
        "agreed": len(agreed),
        "verified_at": max(d.decided_at for d in decisions),
    }
    return Verified(item, item.triplet if last.verdict == "accept" else last.triplet, verification)


def make_questions(project: Project) -> Questions:
    """Return all questions that the settled items give, in the grammar of the contract.

    A relation of another category ("cup above dog" as an action), which version 1.0.0 let pass,
    becomes no question, whether people found it true or false. It is counted.
    """
    verified = read_verified(project)
    questions = Questions([], Counter(), [])
    truths = _find_truths(verified, questions.drops)
    false: dict[tuple[str, str], FalseTwins] = defaultdict(lambda: defaultdict(deque))
    for one in verified:
        item, key = one.item, (one.item.image_id, one.item.category)
        if one.truth == item.triplet or item.triplet in truths.get(key, ()):
            continue
        if _is_fit(item.category, item.triplet, questions.drops):
            false[key][item.triplet.subject, item.triplet.object].append(one)
    for key, found in truths.items():
        _add_questions(questions, found, false[key])
    return questions


def propose_negatives(project: Project) -> list[Proposal]:
    """Another verb for every action triplet that lacks a false one, to be confirmed false by people.

    It is plausible for the pair: an opposite of the true one, or what other items of the project say of the same two
    things, or of one of them. None is proposed that may mean the same, or that stands for this picture already.
    """
    items = [item for item in project.items() if item.category == "action"]
    ranking = _Ranking(items)
    taken: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for item in items:
        taken[_pair(item)].append(item.triplet.relation)
    negatives = [item for item in items if item.origin == "negative"]
    settled = {_pair(item) for item in project.items("settled") if item.origin == "negative"}
    fit = (item for item in negatives if not find_misfit("action", item.triplet.relation))
    pending = {_pair(item) for item in fit} - settled
    proposals = []
    for verified in make_questions(project).awaiting_negative:
        truth, image_id = verified.truth or verified.item.triplet, verified.item.image_id
        pair = image_id, truth.subject, truth.object
        if pair in pending:
            continue
        avoided = [*taken.get(pair, ()), truth.relation]
        verbs = ranking.find_verbs(truth)
        verb = next(
            (v for v in verbs if not any(are_synonyms("action", v, a) for a in avoided)), None
        )
        if verb:
            source = f"ask: false verb for item {verified.item.id}"
            triplet = truth._replace(relation=verb)
            proposals.append(Proposal(image_id, "action", triplet, None, None, "negative", source))
    return proposals


class _Ranking:
    """Verbs by what they are said of: the same two things, the same object, the same subject."""

    def __init__(self, items: Iterable[Item]) -> None:
        counts: dict[tuple[str | None, str | None], Counter[str]] = defaultdict(Counter)
        for item in items:
            subject, verb, object_ = item.triplet
            if find_misfit("action", verb) is None:
                for key in ((subject, object_), (None, object_), (subject, None)):
                    counts[key][verb] += 1
        # The most frequent first; then by name, so that the choice is the same every time.
        self._verbs = {
            key: [verb for verb, _ in sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))]
            for key, count in counts.items()
        }

    def find_verbs(self, truth: Triplet) -> Iterator[str]:
        """Yield verbs that may be plausible, the most plausible first; some come twice."""
        known = read_taxonomy().categories["action"].relations.get(truth.relation)
        yield from sorted(known.opposites) if known else ()
        for key in ((truth.subject, truth.object), (None, truth.object), (truth.subject, None)):
            yield from self._verbs.get(key, ())


def _is_fit(category: str, triplet: Triplet, drops: Counter[str]) -> bool:
    """Return whether the relation can be one of its category; where it cannot, count why."""
    misfit = find_misfit(category, triplet.relation)
    if misfit:
        drops[f"{category} triplet: {misfit}"] += 1
    return misfit is None


def _find_truths(
    verified: Iterable[Verified],
    drops: Counter[str],
) -> dict[tuple[str, str], dict[Triplet, Verified]]:
    """What is true by picture and category; where two items come to the same, the one more people agreed on."""
    truths: dict[tuple[str, str], dict[Triplet, Verified]] = defaultdict(dict)
    for one in verified:
        if one.truth and _is_fit(one.item.category, one.truth, drops):
            known = truths[one.item.image_id, one.item.category]
            other = known.get(one.truth)
            if other is None or one.verification["agreed"] > other.verification["agreed"]:
                known[one.truth] = one
    return truths


def _add_questions(
    questions: Questions,
    truths: dict[Triplet, Verified],
    false: FalseTwins,
) -> None:
    """Add the questions of one picture and category."""
    pairs = Counter((truth.subject, truth.object) for truth in truths)
    for truth, verified in truths.items():
        if truth.subject.casefold() == truth.object.casefold():
            questions.drops["both things have the same name"] += 1
            continue
        twins = list(_make_twins(truth, verified.item.category))
        if any(twin in truths for twin in twins):
            questions.drops["contradicts another verified triplet of the picture"] += 1
            continue
        questions.records.append(_make_record(verified, truth, "yes"))
        if pairs[truth.subject, truth.object] == 1:
            questions.records.append(_make_record(verified, truth, truth.relation, "generative"))
        else:
            questions.drops[
                "open question left out: several relations are true of the two things"
            ] += 1
        questions.records.extend(_make_record(verified, twin, "no") for twin in twins)
        if verified.item.category == "action":
            _add_false_verb(questions, verified, truth, false)


def _add_false_verb(
    questions: Questions,
    verified: Verified,
    truth: Triplet,
    false: FalseTwins,
) -> None:
    """Ask about a verb that people found false of the two things; each false one serves one question."""
    if twins := false[truth.subject, truth.object]:
        other = twins.popleft()
        questions.records.append(_make_record(other, other.item.triplet, "no"))
    else:
        questions.awaiting_negative.append(verified)


def _make_twins(truth: Triplet, category: str) -> Iterator[Triplet]:
    """Triplets that are false because this one is true."""
    if category == "action":
        return
    yield Triplet(truth.object, truth.relation, truth.subject)
    known = read_taxonomy().categories[category].relations.get(truth.relation)
    if category == "comparative" and known and known.opposites:
        yield truth._replace(relation=known.opposites[0])


def _make_record(
    verified: Verified, triplet: Triplet, answer: str, task: str = "discriminative"
) -> Record:
    item = verified.item
    domain, style = parse_image_path(item.image_id)
    question = make_question(domain, item.category, triplet, task, spoken_article)
    is_open = task == "generative"
    return Record(
        question_id="semidc-"
        + hashlib.sha256(f"{item.image_id}\n{question}".encode()).hexdigest()[:16],
        image_id=item.image_id,
        domain=domain,
        category=item.category,
        task=task,
        subject=triplet.subject,
        relation=triplet.relation,
        object=triplet.object,
        question=question,
        instruction=INSTRUCTION,
        answer=answer,
        style=style,
        pair_id=None
        if is_open
        else make_pair_id(item.image_id, item.category, triplet.subject, triplet.object),
        source=f"semidc item {item.id}: {item.source}",
        verification=verified.verification,
    )


def _pair(item: Item) -> tuple[str, str, str]:
    return item.image_id, item.triplet.subject, item.triplet.object
