"""``find WORDS``: the verbs for a job that is described in the user's own words."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated

import msgspec

from hpc_agent.contract.primitive import Primitive, Request, Result, load_all, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.introspect.describe import example_line
from hpc_agent.ops.introspect.synonyms import SYNONYMS
from hpc_agent.ops.run.fields import Positive, doc
from hpc_agent.world import World

# What a word counts by where it stands; a synonym counts less than the word itself.
_WEIGHTS = {"name": 8.0, "aliases": 6.0, "brief": 4.0, "summary": 4.0, "flags": 1.5, "description": 1.5, "errors": 1.0}
_SYNONYM = 0.6
_SILENT = frozenset(("a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "how", "i", "in", "is",
                     "it", "me", "my", "of", "on", "or", "that", "the", "their", "them", "this", "to", "was", "what", "which",
                     "with"))  # fmt: skip
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ers", "ed", "es", "er", "s", "e", "y")


class FindRequest(Request):
    """What is to be done."""

    words: Annotated[list[str], doc("what is to be done, in words of your own")]
    limit: Annotated[Positive, doc("verbs to show, the best first")] = 5


class Match(msgspec.Struct):
    verb: str
    summary: str
    example: Annotated[str, doc("a command that works in examples/horizon_sweep")]


class FindResult(Result, kw_only=True, omit_defaults=True):
    """Fields that are empty are left out."""

    verbs: Annotated[list[Match], doc("the best first")]
    others: Annotated[int, doc("more verbs that have one of the words; limit shows them")] = 0
    unknown_words: Annotated[list[str], doc("words that no verb has")] = []
    next_step: str


@primitive(
    stage="introspect",
    positional="words",
    errors=[SpecInvalid],
    brief="verbs for a job, by words",
    example={"words": ["failed", "tasks", "again"]},
    next_verbs=["describe"],
    larger=["limit"],
)
def find(request: FindRequest, world: World) -> FindResult:  # noqa: ARG001
    """Find the verbs for a job by words: names, summaries, flags, descriptions and common synonyms are searched."""
    words = [word for text in request.words for word in _words(text)]
    wanted = [word for word in words if word not in _SILENT] or words
    if not wanted:
        raise SpecInvalid(
            "there is no word to look for", field="words", remediation="Run 'hpc-agent find failed tasks'."
        )
    verbs = load_all()
    index = {name: _terms(verb) for name, verb in verbs.items()}
    scores, unknown = _scores(wanted, index)
    for name in (name for name, verb in verbs.items() if "-".join(words) in (name, *verb.aliases)):
        scores[name] = math.inf
    best = sorted(scores, key=lambda name: (-scores[name], name))
    shown = best[: request.limit]
    return FindResult(
        verbs=[Match(verb=name, summary=verbs[name].summary, example=example_line(verbs[name])) for name in shown],
        others=max(0, len(best) - request.limit),
        unknown_words=unknown,
        next_step=f"hpc-agent describe {best[0]}" if best else "hpc-agent capabilities",
    )


def _scores(wanted: Iterable[str], index: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, float], list[str]]:
    """Return the score of each verb that has one of the words, and the words that none has. A rare word counts more."""
    spread = Counter(term for terms in index.values() for term in terms)
    scores: dict[str, float] = {}
    unknown = []
    for word in wanted:
        looked_for = _spellings(word, spread)
        if not looked_for:
            unknown.append(word)
        best: dict[str, float] = {}
        for term, share in looked_for.items():
            rarity = math.log(1 + len(index) / spread[term])
            for name in (name for name, terms in index.items() if term in terms):
                best[name] = max(best.get(name, 0.0), index[name][term] * share * rarity)
        for name, score in best.items():
            scores[name] = scores.get(name, 0.0) + score
    return scores, unknown


def _spellings(word: str, known: Mapping[str, int]) -> dict[str, float]:
    """Return the known terms for a word, each with its share: the word, its synonyms, else the nearest spelling."""
    stem = stem_of(word)
    also = [term for synonym in _synonyms().get(stem, "").split() for term in (synonym, *map(stem_of, _words(synonym)))]
    found = {term: _SYNONYM for term in also if term in known} | ({stem: 1.0} if stem in known else {})
    return found or dict.fromkeys(difflib.get_close_matches(stem, known, n=1, cutoff=0.8), _SYNONYM)


def _terms(verb: Primitive) -> dict[str, float]:
    """Return the terms of a verb with the weight of the best place where each stands; its name is one term as well."""
    places = {
        "name": verb.name,
        "aliases": " ".join(verb.aliases),
        "brief": verb.brief,
        "summary": verb.summary,
        "flags": " ".join(verb.request.__struct_fields__),
        "description": verb.description,
        "errors": " ".join(error.error_code for error in verb.errors),
    }
    terms = {verb.name: 2 * _WEIGHTS["name"]}
    for place, text in places.items():
        for word in _words(text):
            if word not in _SILENT:
                terms[stem_of(word)] = max(terms.get(stem_of(word), 0.0), _WEIGHTS[place])
    return terms


def _words(text: str) -> list[str]:
    # letters of other scripts too: a word that no verb has is unknown, and not the ASCII rest of it
    return re.findall(r"[^\W_]+", text.lower())


@cache
def _synonyms() -> dict[str, str]:
    return {stem_of(word): words for word, words in SYNONYMS.items()}


@cache
def stem_of(word: str) -> str:
    """Return a word without its ending, so that ``failed``, ``fails`` and ``failures`` are nearly one."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
