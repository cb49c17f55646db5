"""Documents packed into rows of tokens without gaps: one flat file, of which a row is a stretch.

RUN/text/train.bin      token numbers, uint16, little-endian; documents follow each other, `[EOS]` between them
RUN/text/held_out.bin   the documents that training never sees
RUN/text/text.json      how many documents and bytes they are

The files are read where a row is asked for (`numpy.memmap`), so a corpus may be larger than the memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from multimodal.common.errors import DataError
from multimodal.common.records import write_atomically
from multimodal.language.text.docstrings import is_held_out
from multimodal.language.text.tokens import EOS, Tokens

FOLDER = "text"
TRAIN, HELD_OUT = "train.bin", "held_out.bin"
COUNTS_FILE = "text.json"
LEARNING_BYTES = 2**25
"""Word pieces are learnt from at most so much text."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was packed.

    Attributes:
        documents: their number, held-out ones included.
        bytes: of UTF-8.
        tokens: their number.
        replaced: documents that are no UTF-8; word pieces read their wrong bytes as replacement characters.
    """

    documents: int
    bytes: int
    tokens: int
    replaced: int


class Rows:
    """Rows of `length` tokens of a packed file; what does not fill the last row is left out."""

    def __init__(self, path: Path, length: int) -> None:
        """See the class.

        Raises:
            DataError: the file does not fill one row.
        """
        self.length = length
        self._tokens = np.memmap(path, np.dtype("<u2"), mode="r") if path.stat().st_size else np.empty(0, np.uint16)
        self._count = len(self._tokens) // length
        if self._count == 0:
            raise DataError(
                f"{path} has {len(self._tokens)} tokens, which do not fill a row of {length}; give more text, or a "
                "shorter --max-length"
            )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:
        """Row `number`, int64 `[length]`."""
        return self._tokens[number * self.length : (number + 1) * self.length].astype(np.int64)

    def stack(self, numbers: Iterable[int]) -> np.ndarray:
        """Rows int64 `[B, length]`."""
        return np.stack([self[number] for number in numbers])


def sample(documents: Iterable[bytes]) -> Iterator[bytes]:
    """The first documents that training may see, to learn word pieces from."""
    taken = 0
    for text in documents:
        if not is_held_out(text):
            yield text
            taken += len(text)
            if taken >= LEARNING_BYTES:
                return


def pack(documents: Callable[[], Iterable[bytes]], make_tokens: Callable[[], Tokens], run: Path) -> Counts:
    """Pack a corpus into a run folder, once: a folder that is there already is kept.

    Args:
        documents: gives the documents from the first one on.
        make_tokens: gives the tokens, which are saved in the run folder.
        run: run folder.

    Raises:
        DataError: there is no text, or none held out; see also `multimodal.language.text.corpus`.
    """
    folder = run / FOLDER
    if folder.is_dir():
        return Counts(**json.loads((folder / COUNTS_FILE).read_text()))
    for leftover in run.glob(".packing-*"):  # of killed commands
        shutil.rmtree(leftover, ignore_errors=True)
    partial = run / f".packing-{os.getpid()}"
    partial.mkdir()
    try:
        tokens = make_tokens()
        tokens.save(run)
        with (partial / TRAIN).open("wb") as train, (partial / HELD_OUT).open("wb") as held_out:
            counts = _write(documents(), tokens, train, held_out)
        write_atomically(partial / COUNTS_FILE, json.dumps(asdict(counts)) + "\n")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _write(documents: Iterable[bytes], tokens: Tokens, train: BinaryIO, held_out: BinaryIO) -> Counts:
    number = size = count = replaced = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task("packing text")
        for text in documents:
            if tokens.kind != "bytes" and not _is_utf8(text):
                replaced += 1
            numbers = np.append(tokens.encode(text), np.uint16(EOS)).astype("<u2")
            (held_out if is_held_out(text) else train).write(numbers.tobytes())
            number, size, count = number + 1, size + len(text), count + len(numbers)
            if number % 256 == 0:
                progress.update(shown, description=f"packing text: {number} documents, {size / 2**20:.0f} MB")
    if number == 0:
        raise DataError("the data holds no document; give files with text")
    return Counts(documents=number, bytes=size, tokens=count, replaced=replaced)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
