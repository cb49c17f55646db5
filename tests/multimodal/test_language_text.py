"""Text for language models: tokens, documents, packed rows, masking, and a pretraining that is broken off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.common.errors import DataError
from multimodal.common.records import METRICS_FILE, read_lines
from multimodal.common.training import alone, train
from multimodal.language.matching import cost, match_transformer
from multimodal.language.model import build_masked, preset
from multimodal.language.preparation import prepare
from multimodal.language.pretraining_report import write_pretraining_report
from multimodal.language.settings import PretrainingConfig, pretraining_recipe
from multimodal.language.text.corpus import PIECE_BYTES, find_shards, read_shard
from multimodal.language.text.docstrings import docstrings_of, is_held_out
from multimodal.language.text.masking import choose, corrupt, mask_rows
from multimodal.language.text.packing import FOLDER, HELD_OUT, TRAIN, Rows, pack
from multimodal.language.text.tokens import (
    CLS,
    EOS,
    MASK,
    PAD,
    SEP,
    SPECIAL,
    Bytes,
    Pieces,
    fit_pair,
    join,
    load_tokens,
)
from perceiver_core.attention_maps import record_attention
from perceiver_core.model import PerceiverIO

WORDS = ["the", "cat", "sat", "on", "the", "mat", "and", "saw", "another", "cat", "that", "sat", "on", "a", "mat"]


def prose(seed: int, words: int = 60) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text in all its forms: 60 documents of some 240 bytes."""
    root = tmp_path_factory.mktemp("text")
    for number in range(20):
        (root / f"{number:02d}.txt").write_text(prose(number))
    lines = [json.dumps({"text": prose(number)}) for number in range(20, 40)]
    (root / "more.jsonl").write_text("\n".join(lines) + "\n")
    table = pyarrow.table({"text": [prose(number) for number in range(40, 60)]})
    pyarrow.parquet.write_table(table, root / "part.parquet")
    return root


def pieces(kind: str) -> Pieces:
    return Pieces.learn(kind, (prose(number).encode() for number in range(20)), 400)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ tokens


@given(st.binary())
def test_bytes_come_back(text: bytes) -> None:
    tokens = Bytes()
    numbers = tokens.encode(text)
    assert tokens.decode(numbers) == text
    assert len(numbers) == tokens.lengths(numbers).sum() == len(text)
    assert all(6 <= number < 262 for number in numbers)


def test_the_special_tokens_are_those_of_the_published_tokenizer() -> None:
    from transformers import PerceiverTokenizer

    published = PerceiverTokenizer()
    by_name = dict(zip(SPECIAL, range(6), strict=True))
    assert published.get_added_vocab() == by_name
    text = "Ein Bär, 3 €"
    expected = published(text, add_special_tokens=False)["input_ids"]
    assert Bytes().encode(text.encode()).tolist() == expected
    assert (PAD, MASK, CLS, SEP) == (0, 3, 4, 5)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_pieces_cover_text_and_are_kept(kind: str, tmp_path: Path) -> None:
    tokens = pieces(kind)
    text = b"the cat saw another mat"
    numbers = tokens.encode(text)
    assert tokens.decode(numbers) == text
    assert len(numbers) < len(text) / 2
    assert numbers.min() >= tokens.first_ordinary
    words = len(text.split())
    assert tokens.starts(numbers).sum() == words
    spaces = words - 1 if kind == "wordpiece" else 0  # WordPiece drops white space
    assert tokens.lengths(numbers).sum() == len(text) - spaces
    tokens.save(tmp_path)
    assert np.array_equal(load_tokens(tmp_path).encode(text), numbers)
    assert len(tokens.encode(b"caf\xe9")) > 0, "text that is no UTF-8 is read with replacement characters"


def test_words_of_bytes_are_runs_of_letters_and_digits() -> None:
    text = "ab c,é_1"
    starts = Bytes().starts(Bytes().encode(text.encode()))
    words = np.split(np.frombuffer(text.encode(), np.uint8), np.flatnonzero(starts)[1:])
    assert [bytes(word.tolist()).decode() for word in words] == ["ab", " ", "c", ",", "é_1"]


@given(st.integers(0, 40), st.none() | st.integers(0, 40), st.integers(0, 50))
def test_pairs_are_cut_longest_first(first: int, second: int | None, room: int) -> None:
    texts = [np.arange(first)] if second is None else [np.arange(first), np.arange(second)]
    kept, cut = fit_pair(texts[0], None if second is None else texts[1], room)
    lengths = [len(text) for text in kept]
    assert cut == (sum(map(len, texts)) > room)
    assert sum(lengths) == min(room, sum(map(len, texts)))
    assert all(np.array_equal(short, text[: len(short)]) for short, text in zip(kept, texts, strict=True))
    if cut and second is not None:
        # As if tokens went one by one from the end of the longer text.
        expected = [first, second]
        while sum(expected) > room:
            expected[0 if expected[0] >= expected[1] else 1] -= 1
        assert lengths == expected
    assert len(join(kept)) == 1 + sum(lengths) + len(kept) - 1


# ------------------------------------------------------------------------------------------------------------ corpus


def test_documents_of_all_kinds_are_read_in_order(folder: Path) -> None:
    read = [text for shard in find_shards(str(folder)) for text in read_shard(shard, "text")]
    assert read == [prose(number).encode() for number in range(60)]


def test_long_files_are_cut_without_loss(tmp_path: Path) -> None:
    text = "".join(f"{prose(number)}\n" for number in range(200)) + "x" * (3 * PIECE_BYTES) + "\nend"
    (tmp_path / "long.txt").write_text(text)
    parts = list(read_shard(tmp_path / "long.txt", "text"))
    assert b"".join(parts).decode() == text
    assert len(parts) > 3 and max(map(len, parts)) <= 2 * PIECE_BYTES


def test_bad_corpora_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; give a file or folder of text"):
        find_shards(str(tmp_path / "nowhere"))
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(DataError, match=r"holds no text: expected files that end in \.txt"):
        find_shards(str(tmp_path))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=r"empty\.txt is empty"):
        find_shards(str(tmp_path))
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:2: no text 'text' among body; name the text with --text-column"):
        list(read_shard(tmp_path / "b.jsonl", "text"))
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n\nno json\n')
    with pytest.raises(DataError, match=r"c\.jsonl:3: no JSON"):
        list(read_shard(tmp_path / "c.jsonl", "text"))
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"d\.parquet has no column 'text', only body"):
        list(read_shard(tmp_path / "d.parquet", "text"))
    (tmp_path / "e.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"e\.parquet is no Parquet file"):
        list(read_shard(tmp_path / "e.parquet", "text"))


def test_docstrings_come_with_their_signatures() -> None:
    source = '''"""A module."""
class A:
    """A class."""
    def f(self, a, *, b=1):
        """A method."""
def g(): pass
'''
    found = list(docstrings_of("torch", source))
    assert [(d.name, d.parameters, d.text) for d in found] == [
        ("", None, "A module."),
        ("A", None, "A class."),
        ("f", ("a", "b"), "A method."),
    ]
    assert found[2].signature == "f(a, b)"
    assert list(docstrings_of("torch", "def broken(")) == []


# ----------------------------------------------------------------------------------------------------------- packing


def test_rows_have_no_gaps(folder: Path, tmp_path: Path) -> None:
    texts = [text for shard in find_shards(str(folder)) for text in read_shard(shard, "text")]
    counts = pack(lambda: texts, Bytes, tmp_path)
    assert counts.documents == 60 and counts.bytes == sum(map(len, texts)) == counts.tokens - 60
    for name, held_out in ((TRAIN, False), (HELD_OUT, True)):
        own = [text for text in texts if is_held_out(text) == held_out]
        expected = np.concatenate([np.append(Bytes().encode(text), EOS) for text in own])
        rows = Rows(tmp_path / FOLDER / name, 32)
        assert len(rows) == len(expected) // 32
        assert np.array_equal(rows.stack(range(len(rows))).ravel(), expected[: len(rows) * 32])
    before = (tmp_path / FOLDER / TRAIN).stat().st_mtime_ns
    pack(lambda: ["never read"], Bytes, tmp_path)  # type: ignore[list-item]
    assert (tmp_path / FOLDER / TRAIN).stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"tokens, which do not fill a row of 1000000; give more text"):
        Rows(tmp_path / FOLDER / TRAIN, 1_000_000)


def test_a_corpus_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no document"):
        pack(list, Bytes, tmp_path)
    assert not (tmp_path / FOLDER).exists()


# ----------------------------------------------------------------------------------------------------------- masking


@given(st.integers(0, 2**32), st.floats(0.02, 0.5), st.booleans())
def test_masks_are_of_the_share_and_of_whole_words(seed: int, share: float, words: bool) -> None:
    row = Bytes().encode(prose(seed % 100).encode())[:200]
    starts = Bytes().starts(row)
    chosen = choose(np.random.default_rng(seed), starts if words else None, len(row), share)
    assert len(set(chosen.tolist())) == len(chosen) and np.all(np.diff(chosen) > 0)
    count = max(1, int(share * len(row)))
    assert 1 <= len(chosen) <= count
    if not words:
        assert len(chosen) == count
    elif len(chosen) < count or count > 10:
        word = np.cumsum(starts)
        masked = np.isin(np.arange(len(row)), chosen)
        assert all(len(set(masked[word == number])) == 1 for number in set(word[chosen]))


def test_what_is_shown_is_80_10_10() -> None:
    rng = np.random.default_rng(0)
    row = Bytes().encode(b"e" * 20_000).astype(np.int64)
    positions = np.arange(0, 20_000, 2)
    seen = corrupt(rng, row, positions, Bytes())
    assert np.array_equal(seen[1::2], row[1::2])
    shown = seen[positions]
    assert np.mean(shown == MASK) == pytest.approx(0.8, abs=0.02)
    assert np.mean(shown == row[0]) == pytest.approx(0.1, abs=0.02)
    assert shown[shown != MASK].min() >= 6


def test_masks_follow_from_seed_epoch_and_number_alone() -> None:
    rows = np.stack([Bytes().encode(prose(number).encode())[:128] for number in range(4)]).astype(np.int64)
    keys: list[tuple[int, ...]] = [(0, number) for number in range(4)]
    whole = mask_rows(rows, keys, Bytes(), share=0.15, unit="words", seed=3)
    part = mask_rows(rows[2:3], keys[2:3], Bytes(), share=0.15, unit="words", seed=3)
    assert np.array_equal(whole.tokens[2:3], part.tokens)
    assert np.array_equal(whole.positions[2:3], part.positions)
    other = mask_rows(rows, [(1, number) for number in range(4)], Bytes(), share=0.15, unit="words", seed=3)
    assert not np.array_equal(whole.tokens, other.tokens)
    assert np.array_equal(np.take_along_axis(rows, whole.positions, 1), whole.targets)


# ------------------------------------------------------------------------------------------------------------- model


def test_heads_begin_at_their_own_bytes_around_a_latents_place() -> None:
    model = build_masked(preset("tiny", 262, max_length=64, num_latents=16)).eval()
    assert isinstance(model, PerceiverIO)
    text = torch.from_numpy(Bytes().encode((prose(0) * 2).encode())[:64].astype(np.int64))[None]
    with torch.no_grad(), record_attention(model) as maps:
        model(text, None, torch.arange(64))
    reading = maps[0].probabilities[0]  # [H, N, M]
    middles = (torch.arange(16) + 0.5) * 4 - 0.5
    offsets = torch.arange(8) - 3.5
    for head in range(8):
        peaks = reading[head].argmax(-1)
        wanted = (middles + offsets[head])[2:-2]
        assert bool(((peaks[2:-2] - wanted).abs() <= 1.5).all()), (head, peaks, wanted)
    asking = maps[-1].probabilities[0]
    # Through the layers between, the latents keep their places well enough: most heads look nearby.
    near = (torch.arange(16) * 4 + 1.5 - torch.arange(64)[:, None]).abs() <= 16
    assert float((asking.mean(0) * near).sum(-1).mean()) > 0.6


def test_places_need_room() -> None:
    with pytest.raises(ValueError, match=r"8 frequencies in each head's channels need at least 32 channels everywhere"):
        build_masked(replace(preset("tiny", 262), latent_channels=24, channels=24, latent_qk_channels=24))


@pytest.mark.parametrize("objective", ["masked", "next"])
@pytest.mark.parametrize("match", ["flops", "parameters"])
def test_the_transformer_costs_about_as_much(objective: str, match: str) -> None:
    sizes = preset("tiny", 262, num_latents=64)
    matched = match_transformer(sizes, objective, match)  # type: ignore[arg-type]
    assert matched.encoder == "transformer" and matched.max_length == sizes.max_length
    wanted, got = cost(sizes, objective, match), cost(matched, objective, match)  # type: ignore[arg-type]
    assert got == pytest.approx(wanted, rel=0.12)


def test_padding_changes_nothing() -> None:
    text = torch.from_numpy(Bytes().encode(prose(3).encode())[:40].astype(np.int64))[None]
    padded = torch.cat([text, torch.randint(6, 262, (1, 24))], dim=1)
    other = torch.cat([text, torch.randint(6, 262, (1, 24))], dim=1)
    mask = torch.arange(64)[None] < 40
    positions = torch.arange(0, 40, 3)
    for encoder in ("perceiver", "transformer"):
        sizes = replace(preset("tiny", 262, max_length=64, num_latents=16), encoder=encoder)  # type: ignore[arg-type]
        model = build_masked(sizes).eval()
        with torch.no_grad():
            first, second = model(padded, mask, positions), model(other, mask, positions)
            alone_ = model(text, None, positions)
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        torch.testing.assert_close(first, alone_, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- pretraining


def config_for(out: Path, data: Path, **changes: object) -> PretrainingConfig:
    base = replace(
        pretraining_recipe("tiny", str(out)),
        data=str(data),
        steps=7,
        batch_size=4,
        max_length=64,
        num_latents=16,
        checkpoint_every=3,
        log_every=1,
        held_out_rows=4,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def totals(out: str) -> list[float]:
    return [line["total"] for line in read_lines(Path(out) / METRICS_FILE)]


@pytest.mark.parametrize("objective", ["masked", "next"])
def test_a_pretraining_resumes_inside_an_epoch_with_the_same_losses(
    folder: Path, tmp_path: Path, objective: str
) -> None:
    whole = config_for(tmp_path / "whole", folder, objective=objective)
    train(prepare(whole), alone())
    broken = config_for(tmp_path / "broken", folder, objective=objective)
    for until in (2, 5, None):
        train(prepare(broken), alone(), until=until)
    assert totals(whole.out) == totals(broken.out) and len(totals(whole.out)) == 7
    write_pretraining_report(whole.out)
    page = (Path(whole.out) / "report.html").read_text()
    assert "bits a byte" in page and ("Where the latents look" in page) == (objective == "masked")


@pytest.mark.parametrize("changes", [{"encoder": "transformer"}, {"tokens": "wordpiece", "vocabulary": 300}])
def test_the_other_ways_train_too(folder: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    config = config_for(tmp_path / "run", folder, steps=2, max_length=32, **changes)
    train(prepare(config), alone())
    again = replace(config, start_from=config.out, out=str(tmp_path / "again"))
    task = prepare(again)
    means = train(task, alone())
    assert means["total"] > 0 and task.info.model.max_length == 32
    write_pretraining_report(config.out)


def test_what_cannot_be_pretrained_is_refused(folder: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path / "run", folder, steps=2)
    prepare(config)
    with pytest.raises(DataError, match=r"begun with other settings \(mask_share 0.15 -> 0.3\)"):
        prepare(replace(config, mask_share=0.3))
    with pytest.raises(DataError, match=r"no such folder; give a run folder"):
        prepare(config_for(tmp_path / "other", folder, start_from=str(tmp_path / "nowhere")))
    (tmp_path / "short").mkdir()
    (tmp_path / "short/a.txt").write_text("too short")
    with pytest.raises(DataError, match="do not fill a row of 64"):
        prepare(config_for(tmp_path / "third", tmp_path / "short"))
    with pytest.raises(ValueError, match=r"mask_share is 1.0; it must lie between 0 and 1"):
        replace(config, mask_share=1.0)
