"""Labelled tasks that the docstrings of installed packages give for free.

| task | text | label |
|---|---|---|
| package | a paragraph | torch, scipy, sklearn, numpy or python |
| signature | a summary; a signature | whether they belong together |
| follows | two paragraphs | whether the second follows the first |
| order | a sentence | whether its words are in order, or two of them changed places |
| parameter-count | the beginning of a function's docstring | number of its parameters (a score) |

Documents that pretraining never sees make the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from multimodal.language.tasks.labelled import Example, LabelledTask, make_task
from multimodal.language.text.docstrings import Docstring, is_held_out, read_docstrings

MOST_TRAIN, MOST_TEST = 12_000, 1_000
MOST_PARAMETERS = 12
"""Functions with more count as having so many."""
LONGEST = 240
"""Characters of a text that any way of answering sees: what the default model reads."""
SENTENCE = re.compile(r"(?<=[.!?])\s+")
YES, NO = "yes", "no"


def _paragraphs(text: str, least: int = 60) -> list[str]:
    """Paragraphs of prose: lines joined, doctests, tables and headings left out."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines()]
        joined = " ".join(lines)
        marks = sum(not (letter.isalnum() or letter in " .,;:'()-`") for letter in joined)
        if len(joined) >= least and ">>>" not in joined and "---" not in joined and marks < len(joined) / 12:
            found.append(joined)
    return found


def _summary(docstring: Docstring) -> str | None:
    """The first sentence, where it is one of prose."""
    first = " ".join(docstring.text.split("\n\n")[0].split())
    sentence = SENTENCE.split(first)[0]
    return sentence if 20 <= len(sentence) <= 200 and " " in sentence else None


def _package(docstrings: list[Docstring], rng: np.random.Generator) -> Iterator[Example]:
    for docstring in docstrings:
        for paragraph in _paragraphs(docstring.text)[:2]:
            yield Example(first=paragraph[:LONGEST], label=docstring.package, place=docstring.name)


def _signature(docstrings: list[Docstring], rng: np.random.Generator) -> Iterator[Example]:
    """Wrong signatures are those of other functions of the same package."""
    by_package: dict[str, list[Docstring]] = {}
    for docstring in docstrings:
        if docstring.parameters and _summary(docstring) is not None:
            by_package.setdefault(docstring.package, []).append(docstring)
    for own in by_package.values():
        for docstring in own:
            right = bool(rng.integers(2))
            shown = docstring if right else own[rng.integers(len(own))]
            if right or shown.signature != docstring.signature:
                summary = _summary(docstring)
                assert summary is not None
                label = YES if right else NO
                yield Example(first=summary, second=shown.signature, label=label, place=docstring.name)


def _follows(docstrings: list[Docstring], rng: np.random.Generator) -> Iterator[Example]:
    """Wrong second paragraphs are those of other documents of the same package."""
    by_package: dict[str, list[list[str]]] = {}
    for docstring in docstrings:
        paragraphs = _paragraphs(docstring.text)
        if len(paragraphs) >= 2:
            by_package.setdefault(docstring.package, []).append(paragraphs)
    for own in by_package.values():
        for paragraphs in own:
            for first, second in pairwise(paragraphs[:3]):
                right = bool(rng.integers(2))
                other = own[rng.integers(len(own))]
                shown = second if right else other[rng.integers(1, len(other))]
                if right or other is not paragraphs:
                    yield Example(first=first[-110:], second=shown[:110], label=YES if right else NO)


def _order(docstrings: list[Docstring], rng: np.random.Generator) -> Iterator[Example]:
    for docstring in docstrings:
        sentences = [s for paragraph in _paragraphs(docstring.text)[:2] for s in SENTENCE.split(paragraph)]
        for sentence in sentences[:2]:
            words = sentence.split()
            if not (len(words) >= 6 and len(sentence) <= LONGEST):
                continue
            right = bool(rng.integers(2))
            if not right:
                one, other = rng.choice(len(words), 2, replace=False)
                if words[one] == words[other]:
                    continue
                words[one], words[other] = words[other], words[one]
            yield Example(first=" ".join(words), label=YES if right else NO, place=docstring.name)


def _parameters(docstrings: list[Docstring], rng: np.random.Generator) -> Iterator[Example]:
    for docstring in docstrings:
        if docstring.parameters is not None and len(docstring.text) >= 60:
            text = " ".join(docstring.text.split())
            count = float(min(len(docstring.parameters), MOST_PARAMETERS))
            yield Example(first=text[:LONGEST], label=count, place=docstring.name)


_MAKERS: dict[str, Callable[[list[Docstring], np.random.Generator], Iterator[Example]]] = {
    "package": _package,
    "signature": _signature,
    "follows": _follows,
    "order": _order,
    "parameter-count": _parameters,
}
NAMES = tuple(_MAKERS)


@cache
def embedded_task(name: str) -> LabelledTask:
    """One of the tasks; the same every time for the same versions of the packages.

    Raises:
        DataError: no docstrings are installed.
    """
    docstrings = read_docstrings()
    parts = []
    for held_out, most in ((False, MOST_TRAIN), (True, MOST_TEST)):
        rng = np.random.default_rng([NAMES.index(name), held_out])
        own = [docstring for docstring in docstrings if is_held_out(docstring.text) == held_out]
        examples = list(_MAKERS[name](own, rng))
        parts.append([examples[number] for number in rng.permutation(len(examples))[:most]])
    train, test = parts
    shown = {example.first + (example.second or "") for example in train}
    test = [example for example in test if example.first + (example.second or "") not in shown]
    return make_task(name, train, test, scored=name == "parameter-count")
