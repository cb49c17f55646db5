"""Sentences of Markdown pages and of docstrings, and how long they are.

`python -m tests.prose README.md docs perceiver_core` prints a row for each argument.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"`[^`]*`")
END = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z`\"'(\[0-9])")
FIGURE = re.compile(r"(?<![\w.])\d[\d,.]*")


def of_markdown(text: str) -> list[str]:
    """Sentences of a page, without code, tables and headings."""
    text = COMMENT.sub("", FENCE.sub("", text))
    paragraphs: list[str] = [""]
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith(("#", "|", "![", "    ")):
            paragraphs.append("")
        elif line.startswith(("- ", "* ", "1. ")):
            paragraphs.append(line[2:])
        else:
            paragraphs[-1] += " " + line
    return [sentence for paragraph in paragraphs for sentence in _sentences(paragraph)]


def of_docstrings(source: str) -> list[str]:
    """Sentences of a module's docstrings; indented examples and names of entries are left out."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                if not paragraph.startswith("    "):
                    entries = re.sub(r"^\s*[\w\*, ]+: ", "\n", paragraph, flags=re.MULTILINE)
                    found += [s for entry in entries.split("\n\n") for s in _sentences(" ".join(entry.split()))]
    return found


def _sentences(paragraph: str) -> Iterator[str]:
    plain = LINK.sub(r"\1", paragraph)
    plain = CODE.sub(lambda match: "code" if " " in match[0] else match[0], plain)
    for sentence in END.split(plain.strip()):
        if len(sentence.split()) > 1:
            yield sentence


def words(sentence: str) -> int:
    """Words of a sentence; numbers and signs alone do not count."""
    return sum(bool(re.search(r"[A-Za-z]", word)) for word in sentence.split())


def sentences_of(path: Path) -> Iterator[tuple[Path, str]]:
    """Sentences of a page, a module, or all of them below a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.suffix == ".md":
            yield from ((file, sentence) for sentence in of_markdown(file.read_text(encoding="utf-8")))
        elif file.suffix == ".py":
            yield from ((file, sentence) for sentence in of_docstrings(file.read_text(encoding="utf-8")))


def main(arguments: list[str]) -> None:
    print(f"{'where':24} {'sentences':>9} {'mean words':>10} {'over 25':>8} {'longest':>8} {'figures/100 words':>18}")
    for argument in arguments:
        found = [sentence for _, sentence in sentences_of(Path(argument))]
        lengths = [words(sentence) for sentence in found]
        figures = sum(len(FIGURE.findall(sentence)) for sentence in found)
        print(
            f"{argument:24} {len(found):9} {sum(lengths) / len(lengths):10.1f} {sum(n > 25 for n in lengths):8}"
            f" {max(lengths):8} {100 * figures / sum(lengths):18.1f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
