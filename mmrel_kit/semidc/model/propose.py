# SPDX-License-Identifier: Apache-2.0
"""Ask a model for the relations in pictures; triplets with a confidence come out."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.endpoint import Attachment, Request
from mmrel_kit.files import InputError, Share
from mmrel_kit.questions.records import Triplet, parse_image_path
from mmrel_kit.questions.taxonomy import find_misfit, read_taxonomy
from mmrel_kit.semidc.items import Proposal
from mmrel_kit.semidc.reply import REPLY_SCHEMA, parse_reply
from mmrel_kit.semidc.words import make_triplet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mmrel_kit.endpoint import Endpoint, Reply
    from mmrel_kit.semidc.model.select import Candidate

PROMPTS = Path(__file__).resolve().parent / "prompts"
SHOWN_RELATIONS = 12  # of an open vocabulary, as examples
SHOWN_THINGS = 30
PARAMETERS = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "triplets", "strict": True, "schema": REPLY_SCHEMA},
    }
}


class ScoredTriplet(NamedTuple):
    """A triplet as a model stated it, with its confidence from 0 to 1."""

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
        candidates: pictures, with the things in them where these are known.
        category: kind of relation.
        endpoint: the model.
        images: folder that holds the pictures at their paths.
        drops: what became no proposal is counted here, by reason.
        times: how often each picture is asked about; a triplet's confidence is the mean over all of them.
        share: the part of the pictures that is asked about.
        prompt: name of a prompt file; default: the newest of the category.
        progress: called after each reply.

    Returns:
        Items to be verified, sorted; none of a picture whose replies are not all there.
    """
    name = prompt or newest_prompt(category)
    text = read_prompt(name)
    asked = {c.image_id: c for c in candidates if share.holds(c.image_id)}
    replies: dict[str, list[list[ScoredTriplet]]] = defaultdict(list)
    for reply in endpoint.ask(_make_requests(asked.values(), category, text, images, times, drops)):
        progress()
        candidate = asked[reply.request.id]
        if reply.failure and reply.failure != "refusal":
            drops[f"no reply: {reply.failure}"] += 1
        else:
            replies[candidate.image_id].append(read_reply(reply, candidate, category, drops))
    source = f"propose {name} {endpoint.model}"
    proposals: list[Proposal] = []
    for image_id in sorted(replies):
        if len(replies[image_id]) == times:
            proposals += _merge(asked[image_id], category, replies[image_id], source)
    return proposals


def read_reply(
    reply: Reply, candidate: Candidate, category: str, drops: Counter[str]
) -> list[ScoredTriplet]:
    """Return the triplets of a reply that can be verified; count the others by reason."""
    if reply.failure or reply.text is None:
        drops[f"reply: {reply.failure or 'no text'}"] += 1
        return []
    try:
        all_stated = parse_reply(reply.text)
    except InputError as error:
        drops[f"reply: {error}"] += 1
        return []
    said: dict[Triplet, float] = {}
    for stated in all_stated:
        try:
            triplet = _read_triplet(stated, candidate, category)
        except InputError as error:
            drops[f"triplet: {error}"] += 1
            continue
        if triplet in said:
            drops["triplet: said twice"] += 1
        said.setdefault(triplet, min(1.0, max(0.0, float(stated["confidence"]))))
    return [ScoredTriplet(*pair) for pair in said.items()]


def newest_prompt(category: str) -> str:
    """Return the name of the newest prompt file of a category."""
    names = [path.stem for path in PROMPTS.glob(f"{category}-*.md")]
    return max(names, key=lambda name: int(name.rpartition("-")[2]))


def read_prompt(name: str) -> str:
    """Return the text of a prompt file; its name ends in its version.

    Raises:
        InputError: there is no prompt of that name.
    """
    known = sorted(path.stem for path in PROMPTS.glob("*.md"))
    if name not in known:
        raise InputError(f"expected a prompt among {', '.join(known)}, got {name!r}")
    return (PROMPTS / f"{name}.md").read_text("utf-8").strip()


def make_prompt(text: str, candidate: Candidate, category: str) -> str:
    """Fill in what is known of the picture, and the words of the category."""
    things = sorted({thing.name for thing in candidate.things})[:SHOWN_THINGS]
    limits = "Speak of its most visible things."
    if things:
        limits = f"Speak only of these things in it: {', '.join(things)}."
    relations = list(read_taxonomy().categories[category].relations)[:SHOWN_RELATIONS]
    return text.replace("{things}", limits).replace("{relations}", ", ".join(relations))


def _make_requests(
    candidates: Iterable[Candidate],
    category: str,
    text: str,
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
        prompt = make_prompt(text, candidate, category)
        for repeat in range(times):
            yield Request(candidate.image_id, prompt, picture, repeat)


def _read_triplet(stated: dict[str, Any], candidate: Candidate, category: str) -> Triplet:
    """Return a stated triplet in the project's words; raise with the bare reason, to be counted."""
    vocabulary = read_taxonomy().categories[category]
    word = " ".join(stated["relation"].split()).lower()
    if vocabulary.find(word) is None:
        if not vocabulary.is_open:
            raise InputError("outside the taxonomy")
        if misfit := find_misfit(category, word):
            raise InputError(misfit)
    domain, _ = parse_image_path(candidate.image_id)
    try:
        words = (stated["subject"], stated["relation"], stated["object"])
        triplet = make_triplet(domain, category, *words)
    except InputError:
        raise InputError("no question can be asked about it") from None
    things = {thing.name.casefold() for thing in candidate.things}
    if things and not {triplet.subject.casefold(), triplet.object.casefold()} <= things:
        raise InputError("about things not asked for")
    if triplet.subject.casefold() == triplet.object.casefold():
        raise InputError("the same thing twice")
    return triplet


def _merge(
    candidate: Candidate, category: str, replies: list[list[ScoredTriplet]], source: str
) -> Iterator[Proposal]:
    """Yield what the replies about a picture say, with the mean confidence.

    A reply without a triplet counts as a confidence of 0.
    """
    found: dict[Triplet, list[float]] = defaultdict(list)
    for said in replies:
        for triplet, confidence in said:
            found[triplet].append(confidence)
    for triplet, confidences in sorted(found.items()):
        spread = {
            "asked": len(replies),
            "said": len(confidences),
            "confidences": sorted(confidences),
        }
        mean = round(sum(confidences) / len(replies), 4)
        yield Proposal(candidate.image_id, category, triplet, mean, spread, "model", source)
