"""Text as numbers: raw UTF-8 bytes as published, or word pieces learnt from the data. Both behind one interface.

The first six numbers are the special tokens of the published byte models, for word pieces too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from multimodal.common.errors import DataError
from multimodal.common.records import write_atomically

SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]")
PAD, BOS, EOS, MASK, CLS, SEP = range(len(SPECIAL))
TOKENS_FILE = "tokens.json"
Kind = Literal["bytes", "wordpiece", "bpe"]


class Tokens(Protocol):
    """Text to token numbers and back."""

    kind: Kind

    @property
    def vocabulary(self) -> int:
        """Number of tokens, special ones included."""
        ...

    @property
    def first_ordinary(self) -> int:
        """The tokens from this number on stand for text."""
        ...

    def encode(self, text: bytes) -> np.ndarray:
        """Token numbers uint16 `[L]` of UTF-8 text, without special tokens."""
        ...

    def decode(self, numbers: Iterable[int]) -> bytes:
        """The text of tokens; special ones by their names, such as `[MASK]`."""
        ...

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        """Where words begin: bool `[L]`; the first token does. A run of letters and digits is a word, and so is every
        other character."""
        ...

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """Bytes that each token stands for, float `[L]`: losses a token become bits a byte with it."""
        ...

    def save(self, folder: Path) -> None:
        """Write `tokens.json` into a folder."""
        ...


def _is_word(numbers: np.ndarray) -> np.ndarray:
    """Bytes of letters, digits, the underscore, and of characters outside of ASCII."""
    byte = numbers.astype(np.int64) - len(SPECIAL)
    digits, large = (byte >= 48) & (byte <= 57), (byte >= 65) & (byte <= 90)
    small = (byte >= 97) & (byte <= 122)
    return digits | large | small | (byte == 95) | (byte >= 128)


class Bytes:
    """UTF-8 bytes, as the published byte models read them: 6 special tokens and 256 bytes. Any file can be read so."""

    kind: Kind = "bytes"
    vocabulary = len(SPECIAL) + 256
    first_ordinary = len(SPECIAL)

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, np.uint8).astype(np.uint16) + np.uint16(len(SPECIAL))

    def decode(self, numbers: Iterable[int]) -> bytes:
        return b"".join(
            SPECIAL[number].encode() if number < len(SPECIAL) else bytes([number - len(SPECIAL)]) for number in numbers
        )

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        word = _is_word(numbers)
        return ~word | np.r_[True, ~word[:-1]]

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        return (numbers >= len(SPECIAL)).astype(float)

    def save(self, folder: Path) -> None:
        write_atomically(folder / TOKENS_FILE, json.dumps({"kind": self.kind}) + "\n")


class Pieces:
    """WordPiece or byte-level BPE of the `tokenizers` library.

    Text that is no UTF-8 is read with a replacement character for each wrong byte.
    """

    def __init__(self, kind: Kind, tokenizer: object) -> None:
        from tokenizers import Tokenizer

        assert isinstance(tokenizer, Tokenizer)
        self.kind = kind
        self._tokenizer = tokenizer
        self.vocabulary = tokenizer.get_vocab_size()
        self.first_ordinary = len(SPECIAL) + (kind == "wordpiece")  # WordPiece also has [UNK]
        names = [str(tokenizer.id_to_token(number)) for number in range(self.vocabulary)]
        continues = re.compile(r"^##") if kind == "wordpiece" else re.compile(r"^[^\WĠ]")
        self._starts = np.array([not continues.match(name) for name in names])
        shown = [name.removeprefix("##") for name in names]
        count = (lambda name: len(name.encode())) if kind == "wordpiece" else len  # a BPE character is a byte
        self._lengths = np.array([float(count(name)) for name in shown])
        self._lengths[: self.first_ordinary] = 0.0

    @classmethod
    def learn(cls, kind: Kind, documents: Iterable[bytes], vocabulary: int) -> Pieces:
        """Learn a vocabulary from documents.

        Raises:
            DataError: there are fewer different pieces in the data than the vocabulary has room for special ones.
        """
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        special = [*SPECIAL, *(["[UNK]"] if kind == "wordpiece" else [])]
        if kind == "wordpiece":
            tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            tokenizer.normalizer = normalizers.NFC()
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.WordPiece()
            trainer: trainers.Trainer = trainers.WordPieceTrainer(
                vocab_size=vocabulary, special_tokens=special, show_progress=False
            )
        else:
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(
                vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
            )
        tokenizer.train_from_iterator((text.decode(errors="replace") for text in documents), trainer)
        if tokenizer.get_vocab_size() <= len(special):
            raise DataError("no word pieces could be learnt: the data holds no text; give another --data")
        return cls(kind, tokenizer)

    def encode(self, text: bytes) -> np.ndarray:
        encoding = self._tokenizer.encode(text.decode(errors="replace"), add_special_tokens=False)  # type: ignore[attr-defined]
        return np.array(encoding.ids, np.uint16)

    def decode(self, numbers: Iterable[int]) -> bytes:
        text: str = self._tokenizer.decode(list(numbers), skip_special_tokens=False)  # type: ignore[attr-defined]
        return text.encode()

    def starts(self, numbers: np.ndarray) -> np.ndarray:
        starts: np.ndarray = self._starts[numbers]
        starts[:1] = True
        return starts

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        lengths: np.ndarray = self._lengths[numbers]
        return lengths

    def save(self, folder: Path) -> None:
        text = json.dumps({"kind": self.kind, "tokenizer": json.loads(self._tokenizer.to_str())})  # type: ignore[attr-defined]
        write_atomically(folder / TOKENS_FILE, text + "\n")


def load_tokens(folder: str | Path) -> Tokens:
    """The tokens of a run.

    Raises:
        DataError: the folder has none.
    """
    path = Path(folder) / TOKENS_FILE
    if not path.is_file():
        raise DataError(f"{folder} holds no {TOKENS_FILE}; give the --out folder of a training on text")
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["kind"] == "bytes":
        return Bytes()
    from tokenizers import Tokenizer

    return Pieces(stored["kind"], Tokenizer.from_str(json.dumps(stored["tokenizer"])))


def fit_pair(first: np.ndarray, second: np.ndarray | None, room: int) -> tuple[list[np.ndarray], bool]:
    """Cut one or two texts to `room` tokens together: tokens go from the end of the longer one, one by one.

    Returns:
        The texts, and whether anything was cut.
    """
    texts = [first] if second is None else [first, second]
    over = sum(map(len, texts)) - room
    if over <= 0:
        return texts, False
    if second is None:
        return [first[:room]], True
    longer, shorter = (0, 1) if len(first) >= len(second) else (1, 0)
    excess = min(over, len(texts[longer]) - len(texts[shorter]))
    kept = [len(text) for text in texts]
    kept[longer] -= excess
    over -= excess
    kept[0] -= (over + 1) // 2
    kept[1] -= over // 2
    return [text[:length] for text, length in zip(texts, kept, strict=True)], True


def join(texts: Sequence[np.ndarray]) -> np.ndarray:
    """`[CLS] text [SEP] text`: what a classifier reads; `[L]` int64."""
    parts: list[np.ndarray] = [np.array([CLS])]
    for number, text in enumerate(texts):
        parts += [np.array([SEP])] if number else []
        parts.append(text)
    return np.concatenate(parts).astype(np.int64)
