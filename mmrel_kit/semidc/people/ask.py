# SPDX-License-Identifier: Apache-2.0
"""Turn verified triplets into questions: one with the answer yes, some with no, and an open one.

A triplet gets the answer no only if it is known to be false. A swapped spatial or comparative
triplet is false because the original is true. Another verb is false only if people judged it so for
this picture; such verbs are proposed to them as negatives.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mmrel_kit.questions.records import (
    Record,
    Triplet,
    make_pair_id,
    make_question,
    parse_image_path,
)
from mmrel_kit.questions.taxonomy import find_misfit, read_taxonomy
from mmrel_kit.semidc.items import Item, Proposal
from mmrel_kit.semidc.people.store import Decision, Project
from mmrel_kit.semidc.words import are_synonyms, spoken_article

# Triplets that people judged false, of one picture and category, by subject and object.
FalseTriplets = defaultdict[tuple[str, str], deque["Verified"]]
INSTRUCTION = "Please answer with one word."


class Verified(NamedTuple):
    """A settled item.

    Attributes:
        truth: the true triplet, which may be a correction, or None if the item was rejected.
        verification: annotators, how many of them agreed, and when, for the record.
    """

    item: Item
    truth: Triplet | None
    verification: dict[str, Any]


class Questions(NamedTuple):
    """The questions of a project.

    Attributes:
        drops: numbers of triplets without a question, by reason.
        awaiting_negative: true action triplets for which no false verb is confirmed yet.
    """

    records: list[Record]
    drops: Counter[str]
    awaiting_negative: list[Verified]


def read_verified(project: Project) -> list[Verified]:
    """Return all settled items with the verdict of people."""
    by_item: dict[int, list[Decision]] = defaultdict(list)
    for decision in project.decisions():
        if decision.verdict != "skip":
            by_item[decision.item].append(decision)
    return [settle(item, by_item[item.id]) for item in project.items("settled")]


def settle(item: Item, decisions: Sequence[Decision]) -> Verified:
    """Return the verdict on a settled item: the adjudicator's, or else the unanimous one."""
    verdict = next((d for d in decisions if d.adjudicates), decisions[-1])
    agreed = {
        decision.annotator
        for decision in decisions
        if (decision.verdict, decision.triplet) == (verdict.verdict, verdict.triplet)
    }
    verification = {
        "annotators": sorted({decision.annotator for decision in decisions}),
        "agreed": len(agreed),
        "verified_at": max(decision.decided_at for decision in decisions),
    }
    truth = item.triplet if verdict.verdict == "accept" else verdict.triplet
    return Verified(item, truth, verification)


def make_questions(project: Project) -> Questions:
    """Return the questions of all settled items, in the grammar of the contract.

    Version 1.0.0 accepted relations of another category ("cup above dog" as an action). Such a
    triplet becomes no question, whether it was judged true or false, and is counted in `drops`.
    """
    verified = read_verified(project)
    questions = Questions([], Counter(), [])
    truths = _find_truths(verified, questions.drops)
    false: dict[tuple[str, str], FalseTriplets] = defaultdict(lambda: defaultdict(deque))
    for one in verified:
        item, key = one.item, (one.item.image_id, one.item.category)
        if one.truth == item.triplet or item.triplet in truths.get(key, ()):
            continue
        if _has_valid_relation(item.category, item.triplet, questions.drops):
            false[key][item.triplet.subject, item.triplet.object].append(one)
    for key, true_triplets in truths.items():
        _add_questions(questions, true_triplets, false[key])
    return questions


def propose_negatives(project: Project) -> list[Proposal]:
    """Propose a false verb for each action triplet that lacks one, for people to confirm.

    The verb is plausible: an opposite of the true one, or a verb that the project has for the same
    two things, or for one of them. It is never a possible synonym of the true verb, or of a verb
    that the project has for the two things on this picture.
    """
    items = [item for item in project.items() if item.category == "action"]
    ranking = _VerbRanking(items)
    known_verbs: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    unsettled = set()
    for item in items:
        known_verbs[_pair(item)].append(item.triplet.relation)
        if item.origin == "negative" and not find_misfit("action", item.triplet.relation):
            unsettled.add(_pair(item))
    for item in project.items("settled"):
        if item.origin == "negative":
            unsettled.discard(_pair(item))
    proposals = []
    for verified in make_questions(project).awaiting_negative:
        truth, image_id = verified.truth or verified.item.triplet, verified.item.image_id
        pair = image_id, truth.subject, truth.object
        if pair in unsettled:
            continue
        verb = _choose_verb(ranking.find_verbs(truth), [*known_verbs[pair], truth.relation])
        if verb:
            source = f"ask: false verb for item {verified.item.id}"
            triplet = truth._replace(relation=verb)
            proposals.append(Proposal(image_id, "action", triplet, None, None, "negative", source))
    return proposals


def _choose_verb(verbs: Iterable[str], avoided: Sequence[str]) -> str | None:
    """Return the first verb that is no synonym of those to avoid, or None."""
    for verb in verbs:
        if not any(are_synonyms("action", verb, other) for other in avoided):
            return verb
    return None


class _VerbRanking:
    """The project's verbs by the things that they relate."""

    def __init__(self, items: Iterable[Item]) -> None:
        counts: dict[tuple[str | None, str | None], Counter[str]] = defaultdict(Counter)
        for item in items:
            subject, verb, object_ = item.triplet
            if find_misfit("action", verb) is None:
                for key in ((subject, object_), (None, object_), (subject, None)):
                    counts[key][verb] += 1
        # Most frequent first, then by name, so that every run chooses the same verb.
        self._verbs = {}
        for things, count in counts.items():
            ranked = sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))
            self._verbs[things] = [verb for verb, _ in ranked]

    def find_verbs(self, truth: Triplet) -> Iterator[str]:
        """Yield plausible verbs, the most plausible first; some occur twice."""
        relation = read_taxonomy().categories["action"].relations.get(truth.relation)
        if relation:
            yield from sorted(relation.opposites)
        for key in ((truth.subject, truth.object), (None, truth.object), (truth.subject, None)):
            yield from self._verbs.get(key, ())


def _has_valid_relation(category: str, triplet: Triplet, drops: Counter[str]) -> bool:
    """Return whether the relation may belong to the category; if not, count the triplet."""
    misfit = find_misfit(category, triplet.relation)
    if misfit:
        drops[f"{category} triplet: {misfit}"] += 1
    return misfit is None


def _find_truths(
    verified: Iterable[Verified], drops: Counter[str]
) -> dict[tuple[str, str], dict[Triplet, Verified]]:
    """Return the true triplets by picture and category.

    If two items have the same truth, the one on which more people agreed is taken.
    """
    truths: dict[tuple[str, str], dict[Triplet, Verified]] = defaultdict(dict)
    for one in verified:
        if one.truth and _has_valid_relation(one.item.category, one.truth, drops):
            known = truths[one.item.image_id, one.item.category]
            other = known.get(one.truth)
            if other is None or one.verification["agreed"] > other.verification["agreed"]:
                known[one.truth] = one
    return truths


def _add_questions(
    questions: Questions, truths: dict[Triplet, Verified], false: FalseTriplets
) -> None:
    """Add the questions of one picture and category."""
    relations = Counter((truth.subject, truth.object) for truth in truths)
    for truth, verified in truths.items():
        if truth.subject.casefold() == truth.object.casefold():
            questions.drops["both things have the same name"] += 1
            continue
        contraries = _find_contraries(truth, verified.item.category)
        if any(contrary in truths for contrary in contraries):
            questions.drops["contradicts another verified triplet of the picture"] += 1
            continue
        questions.records.append(_make_record(verified, truth, "yes"))
        if relations[truth.subject, truth.object] == 1:
            questions.records.append(_make_record(verified, truth, truth.relation, "generative"))
        else:
            reason = "open question left out: several relations are true of the two things"
            questions.drops[reason] += 1
        for contrary in contraries:
            questions.records.append(_make_record(verified, contrary, "no"))
        if verified.item.category == "action":
            # Each false triplet serves one true triplet of the same things.
            negatives = false[truth.subject, truth.object]
            if negatives:
                negative = negatives.popleft()
                questions.records.append(_make_record(negative, negative.item.triplet, "no"))
            else:
                questions.awaiting_negative.append(verified)


def _find_contraries(truth: Triplet, category: str) -> list[Triplet]:
    """Return the triplets that are false because this one is true."""
    if category == "action":
        return []
    contraries = [Triplet(truth.object, truth.relation, truth.subject)]
    relation = read_taxonomy().categories[category].relations.get(truth.relation)
    if category == "comparative" and relation and relation.opposites:
        contraries.append(truth._replace(relation=relation.opposites[0]))
    return contraries


def _make_record(
    verified: Verified, triplet: Triplet, answer: str, task: str = "discriminative"
) -> Record:
    item = verified.item
    domain, style = parse_image_path(item.image_id)
    question = make_question(domain, item.category, triplet, task, spoken_article)
    digest = hashlib.sha256(f"{item.image_id}\n{question}".encode()).hexdigest()
    pair_id = None
    if task == "discriminative":
        pair_id = make_pair_id(item.image_id, item.category, triplet.subject, triplet.object)
    return Record(
        question_id=f"semidc-{digest[:16]}",
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
        pair_id=pair_id,
        source=f"semidc item {item.id}: {item.source}",
        verification=verified.verification,
    )


def _pair(item: Item) -> tuple[str, str, str]:
    """Return the picture and the two things of an item."""
    return item.image_id, item.triplet.subject, item.triplet.object
