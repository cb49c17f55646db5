"""An engineer reads each sentence of README and docs once: none is long."""

from __future__ import annotations

from pathlib import Path

from tests.prose import sentences_of, words

ROOT = Path(__file__).parents[1]
MOST_WORDS = 25
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")


def test_sentences_of_the_pages_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {words(sentence)} words: {sentence}"
        for page in PAGES
        for path, sentence in sentences_of(ROOT / page)
        if words(sentence) > MOST_WORDS
    ]
    assert not long, "\n".join(long)
