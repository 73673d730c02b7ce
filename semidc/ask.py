# SPDX-License-Identifier: Apache-2.0
"""Turns verified triplets into questions: yes, its twins that are false, and the open one.

What is false must be known to be: a swapped spatial or comparative triplet is false because the other is true; another
verb is false only where people said so, of this picture, on the same page on which they verify everything else.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from release.records import Record, Triplet, make_pair_id, make_question, parse_image_path
from semidc.store import Item, Proposal
from semidc.vocabulary import are_same, load_vocabulary, spoken_article

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from semidc.store import Decision, Project

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
    waiting: list[Verified]


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
    agreed = {d.annotator for d in decisions if (d.verdict, d.triplet) == (last.verdict, last.triplet)}
    verification = {
        "annotators": sorted({d.annotator for d in decisions}),
        "agreed": len(agreed),
        "verified_at": max(d.decided_at for d in decisions),
    }
    return Verified(item, item.triplet if last.verdict == "accept" else last.triplet, verification)


def make_questions(project: Project) -> Questions:
    """All questions that the settled items give, in the grammar of the contract."""
    verified = read_verified(project)
    truths = _find_truths(verified)
    questions = Questions([], Counter(), [])
    for (image_id, category), found in truths.items():
        false = [v for v in verified if (v.item.image_id, v.item.category) == (image_id, category)]
        false = [v for v in false if v.truth != v.item.triplet and v.item.triplet not in found]
        _add_questions(questions, found, false)
    return questions


def make_negatives(project: Project) -> list[Proposal]:
    """Another verb for every action triplet that lacks a false one, to be confirmed false by people.

    It is plausible for the pair: an opposite of the true one, or what other items of the project say of the same two
    things, or of one of them. None is proposed that may mean the same, or that stands for this picture already.
    """
    items = [item for item in project.items() if item.category == "action"]
    pending = {_pair(item) for item in items if item.origin == "negative"} - {
        _pair(v.item) for v in read_verified(project) if v.item.origin == "negative"
    }
    proposals = []
    for verified in make_questions(project).waiting:
        truth, image_id = verified.truth or verified.item.triplet, verified.item.image_id
        if (image_id, truth.subject, truth.object) in pending:
            continue
        taken = [i.triplet.relation for i in items if _pair(i) == (image_id, truth.subject, truth.object)]
        taken.append(truth.relation)
        fitting = (verb for verb in _rank_verbs(truth, items) if not any(are_same("action", verb, t) for t in taken))
        if verb := next(fitting, None):
            source = f"ask: false verb for item {verified.item.id}"
            triplet = truth._replace(relation=verb)
            proposals.append(Proposal(image_id, "action", triplet, None, None, "negative", source))
    return proposals


def _find_truths(verified: Iterable[Verified]) -> dict[tuple[str, str], dict[Triplet, Verified]]:
    """What is true by picture and category; where two items come to the same, the one more people agreed on."""
    truths: dict[tuple[str, str], dict[Triplet, Verified]] = defaultdict(dict)
    for one in verified:
        if one.truth:
            known = truths[one.item.image_id, one.item.category]
            other = known.get(one.truth)
            if other is None or one.verification["agreed"] > other.verification["agreed"]:
                known[one.truth] = one
    return truths


def _add_questions(questions: Questions, truths: dict[Triplet, Verified], false: list[Verified]) -> None:
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
            questions.drops["open question left out: several relations are true of the two things"] += 1
        questions.records.extend(_make_record(verified, twin, "no") for twin in twins)
        if verified.item.category == "action":
            _add_false_verb(questions, verified, truth, false)


def _add_false_verb(questions: Questions, verified: Verified, truth: Triplet, false: list[Verified]) -> None:
    """Ask about a verb that people found false of the two things; each false one serves one question."""
    for number, other in enumerate(false):
        twin = other.item.triplet
        if (twin.subject, twin.object) == (truth.subject, truth.object):
            questions.records.append(_make_record(other, twin, "no"))
            del false[number]
            return
    questions.waiting.append(verified)


def _make_twins(truth: Triplet, category: str) -> Iterator[Triplet]:
    """Triplets that are false because this one is true."""
    if category == "action":
        return
    yield Triplet(truth.object, truth.relation, truth.subject)
    known = load_vocabulary()[category].relations.get(truth.relation)
    if category == "comparative" and known and known.opposites:
        yield truth._replace(relation=known.opposites[0])


def _make_record(verified: Verified, triplet: Triplet, answer: str, task: str = "discriminative") -> Record:
    item = verified.item
    domain, style = parse_image_path(item.image_id)
    question = make_question(domain, item.category, triplet, task, spoken_article)
    is_open = task == "generative"
    return Record(
        question_id="semidc-" + hashlib.sha256(f"{item.image_id}\n{question}".encode()).hexdigest()[:16],
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
        pair_id=None if is_open else make_pair_id(item.image_id, item.category, triplet.subject, triplet.object),
        source=f"semidc item {item.id}: {item.source}",
        verification=verified.verification,
    )


def _rank_verbs(truth: Triplet, items: Iterable[Item]) -> list[str]:
    """Verbs that may be plausible of the two things, the most plausible first, each once."""
    known = load_vocabulary()["action"].relations.get(truth.relation)
    ranked: list[list[str]] = [list(known.opposites) if known else [], [], [], []]
    for subject, relation, object_ in (item.triplet for item in items):
        same = (subject == truth.subject, object_ == truth.object)
        if any(same):
            ranked[{(True, True): 1, (False, True): 2, (True, False): 3}[same]].append(relation)
    # Within a rank the most frequent first; then by name, so that the choice is the same every time.
    ordered = (sorted(Counter(verbs).items(), key=lambda pair: (-pair[1], pair[0])) for verbs in ranked)
    return list(dict.fromkeys(verb for verbs in ordered for verb, _ in verbs))


def _pair(item: Item) -> tuple[str, str, str]:
    return item.image_id, item.triplet.subject, item.triplet.object
