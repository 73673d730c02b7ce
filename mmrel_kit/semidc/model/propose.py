# SPDX-License-Identifier: Apache-2.0
"""Ask a model for the relations in pictures; return triplets with confidences as proposals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.endpoint import Attachment, Endpoint, Reply, Request
from mmrel_kit.files import InputError, Share
from mmrel_kit.questions.records import Triplet, parse_image_path
from mmrel_kit.questions.taxonomy import find_misfit, read_taxonomy
from mmrel_kit.semidc.items import Proposal
from mmrel_kit.semidc.reply import REPLY_SCHEMA, parse_reply
from mmrel_kit.semidc.words import make_triplet

if TYPE_CHECKING:
    from mmrel_kit.semidc.model.select import Candidate

PROMPTS = Path(__file__).resolve().parent / "prompts"
MAX_RELATIONS = 12  # in a prompt; examples if the vocabulary is open
MAX_THINGS = 30  # in a prompt
PARAMETERS = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "triplets", "strict": True, "schema": REPLY_SCHEMA},
    }
}


class ScoredTriplet(NamedTuple):
    """A triplet from a reply, normalised, with the model's confidence from 0 to 1."""

    triplet: Triplet
    confidence: float


def propose(
    candidates: Iterable[Candidate],
    category: str,
    endpoint: Endpoint,
    images: Path,
    drops: Counter[str],
    times: int = 1,
    share: Share = Share(),  # noqa: B008  # it is a tuple
    prompt: str | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Proposal]:
    """Ask a model for the relations of one category in each picture.

    Args:
        candidates: pictures, with the things in them if these are known.
        category: category of the relations.
        endpoint: the model.
        images: folder that holds the pictures at their paths.
        drops: counter to which rejected replies and triplets are added, by reason.
        times: number of requests per picture; a triplet's confidence is the mean over all of them.
        share: the share of the pictures to ask about.
        prompt: name of a prompt file; None takes the newest of the category.
        progress: called after each reply.

    Returns:
        Sorted proposals; none for a picture that lacks a reply.
    """
    name = prompt or newest_prompt(category)
    template = read_prompt(name)
    chosen = {c.image_id: c for c in candidates if share.holds(c.image_id)}
    requests = _make_requests(chosen.values(), category, template, images, times, drops)
    replies: dict[str, list[list[ScoredTriplet]]] = defaultdict(list)
    for reply in endpoint.ask(requests):
        progress()
        if reply.failure and reply.failure != "refusal":
            drops[f"no reply: {reply.failure}"] += 1
            continue
        candidate = chosen[reply.request.id]
        replies[candidate.image_id].append(read_reply(reply, candidate, category, drops))
    source = f"propose {name} {endpoint.model}"
    proposals: list[Proposal] = []
    for image_id in sorted(replies):
        if len(replies[image_id]) == times:
            proposals += _merge(chosen[image_id], category, replies[image_id], source)
    return proposals


def read_reply(
    reply: Reply, candidate: Candidate, category: str, drops: Counter[str]
) -> list[ScoredTriplet]:
    """Return the triplets of a reply that people can verify; count the others by reason."""
    if reply.failure or reply.text is None:
        drops[f"reply: {reply.failure or 'no text'}"] += 1
        return []
    try:
        values = parse_reply(reply.text)
    except InputError as error:
        drops[f"reply: {error}"] += 1
        return []
    confidences: dict[Triplet, float] = {}
    for value in values:
        try:
            triplet = _read_triplet(value, candidate, category)
        except InputError as error:
            drops[f"triplet: {error}"] += 1
            continue
        if triplet in confidences:
            drops["triplet: repeated"] += 1
        else:
            confidences[triplet] = min(1.0, max(0.0, float(value["confidence"])))
    return [ScoredTriplet(triplet, confidence) for triplet, confidence in confidences.items()]


def newest_prompt(category: str) -> str:
    """Return the name of the newest prompt file of a category."""
    names = [path.stem for path in PROMPTS.glob(f"{category}-*.md")]
    return max(names, key=lambda name: int(name.rpartition("-")[2]))


def read_prompt(name: str) -> str:
    """Return the text of a prompt file, whose name ends in its version.

    Raises:
        InputError: there is no such prompt.
    """
    known = sorted(path.stem for path in PROMPTS.glob("*.md"))
    if name not in known:
        raise InputError(f"expected a prompt among {', '.join(known)}, got {name!r}")
    return (PROMPTS / f"{name}.md").read_text("utf-8").strip()


def make_prompt(template: str, candidate: Candidate, category: str) -> str:
    """Insert the picture's things and the category's relations into a prompt."""
    things = sorted({thing.name for thing in candidate.things})[:MAX_THINGS]
    about_things = "Speak of its most visible things."
    if things:
        about_things = f"Speak only of these things in it: {', '.join(things)}."
    relations = list(read_taxonomy().categories[category].relations)[:MAX_RELATIONS]
    prompt = template.replace("{things}", about_things)
    return prompt.replace("{relations}", ", ".join(relations))


def _make_requests(
    candidates: Iterable[Candidate],
    category: str,
    template: str,
    images: Path,
    times: int,
    drops: Counter[str],
) -> Iterator[Request]:
    for candidate in candidates:
        try:
            picture = Attachment((images / candidate.image_id).read_bytes())
        except OSError as error:
            drops[f"picture: {error.strerror}"] += 1
            continue
        prompt = make_prompt(template, candidate, category)
        for repeat in range(times):
            yield Request(candidate.image_id, prompt, picture, repeat)


def _read_triplet(value: dict[str, Any], candidate: Candidate, category: str) -> Triplet:
    """Return a reply's triplet, normalised.

    Raises:
        InputError: people need not see the triplet; the message holds only the reason.
    """
    vocabulary = read_taxonomy().categories[category]
    word = " ".join(value["relation"].split()).lower()
    if vocabulary.find(word) is None:
        if not vocabulary.is_open:
            raise InputError("outside the taxonomy")
        misfit = find_misfit(category, word)
        if misfit:
            raise InputError(misfit)
    domain, _ = parse_image_path(candidate.image_id)
    try:
        triplet = make_triplet(
            domain, category, value["subject"], value["relation"], value["object"]
        )
    except InputError:
        raise InputError("no question can be asked about it") from None
    subject, object_ = triplet.subject.casefold(), triplet.object.casefold()
    things = {thing.name.casefold() for thing in candidate.things}
    if things and not {subject, object_} <= things:
        raise InputError("about things that were not asked about")
    if subject == object_:
        raise InputError("subject and object are the same")
    return triplet


def _merge(
    candidate: Candidate, category: str, replies: list[list[ScoredTriplet]], source: str
) -> Iterator[Proposal]:
    """Yield a proposal for each triplet of a picture's replies, with the mean confidence.

    A reply without the triplet counts as a confidence of 0.
    """
    by_triplet: dict[Triplet, list[float]] = defaultdict(list)
    for scored_triplets in replies:
        for triplet, confidence in scored_triplets:
            by_triplet[triplet].append(confidence)
    for triplet, values in sorted(by_triplet.items()):
        spread = {"asked": len(replies), "said": len(values), "confidences": sorted(values)}
        mean = round(sum(values) / len(replies), 4)
        yield Proposal(candidate.image_id, category, triplet, mean, spread, "model", source)
