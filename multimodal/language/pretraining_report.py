"""The report of a pretraining: curves, masked text with what the model tells, and where the cross-attention looks."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from multimodal.common.records import METRICS_FILE, read_lines
from multimodal.common.report import number, percent, picture, table, write_page
from multimodal.language.pretraining import HELD_OUT_FILE, MaskedBatch
from multimodal.language.runs import RunInfo, load_model
from multimodal.language.text.masking import mask_rows
from multimodal.language.text.packing import FOLDER, HELD_OUT, Rows
from multimodal.language.text.tokens import CLS, Tokens, load_tokens
from perceiver_core.attention_maps import record_attention
from perceiver_core.hub import HubModel
from perceiver_core.inputs import TokenInput
from perceiver_core.model import PerceiverIO

SHOWN_ROWS = 6
# Of the cross-attention's picture: latents from the middle of the row, so that their tokens fit a page.
SHOWN_LATENTS = 24
SHOWN_TOKENS = 64


def curves(training: Sequence[Mapping[str, float]], held_out: Sequence[Mapping[str, float]]) -> Figure:
    """Bits a token of training and bits a byte of held-out text, over steps."""
    figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
    axis.plot([line["step"] for line in training], [line["total"] / math.log(2) for line in training], linewidth=0.8)
    axis.plot([line["step"] for line in held_out], [line["bits_per_byte"] for line in held_out], "o-", markersize=4)
    axis.set(xlabel="step", ylabel="bits")
    axis.legend(("training, a token", "held out, a byte"), fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def attention_picture(model: PerceiverIO, row: np.ndarray, tokens: Tokens) -> Figure:
    """Where latents look in a row: probabilities of the encoder's cross-attention, the largest over its heads."""
    with torch.no_grad(), record_attention(model) as maps:
        model.encode(torch.from_numpy(row)[None])
    assert isinstance(model.inputs, TokenInput)
    looked = maps[0].probabilities[0].amax(0).numpy()  # [N, M]
    # Latents begin at places along the longest row; those of a shorter text's middle are shown.
    stride = model.inputs.config.max_length / len(looked)
    middle = len(row) / 2
    first = max(0, min(int(middle / stride) - SHOWN_LATENTS // 2, len(looked) - SHOWN_LATENTS))
    shown = looked[first : first + SHOWN_LATENTS]
    begin = max(0, int(middle) - SHOWN_TOKENS // 2)
    shown = shown[:, begin : begin + SHOWN_TOKENS]
    # Tokens of tasks stand behind the vocabulary, in the place of [CLS].
    letters = [
        readable(tokens.decode([value if value < tokens.vocabulary else CLS]))
        for value in row[begin : begin + SHOWN_TOKENS]
    ]
    figure, axis = plt.subplots(figsize=(11, 4.2), layout="constrained")
    extent = (-0.5, len(letters) - 0.5, first + len(shown) - 0.5, first - 0.5)
    image = axis.imshow(shown, aspect="auto", cmap="magma", vmin=0, extent=extent)
    axis.set_xticks(range(len(letters)), letters, fontsize=7)
    axis.set(ylabel="latent", xlabel="tokens")
    figure.colorbar(image, ax=axis, label="attention")
    return figure


def readable(text: bytes) -> str:
    """Text for a page: white space and control characters become visible."""
    shown = text.decode(errors="replace").replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(letter if letter.isprintable() else "·" for letter in shown)


def told_text(model: HubModel, info: RunInfo, rows: np.ndarray, tokens: Tokens) -> list[str]:
    """Rows as HTML: masked tokens in their places, green where the model told them, else red with what it told."""
    masked = mask_rows(
        rows,
        [(2**32 - 2, index) for index in range(len(rows))],
        tokens,
        share=float(info.training["mask_share"]),
        unit=info.training["mask_unit"],
        seed=0,
    )
    batch = MaskedBatch.of(masked)
    with torch.no_grad():
        told = model(batch.tokens, None, batch.positions).argmax(-1).numpy()
    pages = []
    for index, row in enumerate(rows):
        by_place = {
            int(place): int(value)
            for place, value, counts in zip(batch.positions[index], told[index], masked.counts[index], strict=True)
            if counts
        }
        letters = []
        for place, value in enumerate(row):
            shown = html.escape(readable(tokens.decode([value])))
            if place not in by_place:
                letters.append(shown.replace("␣", " ").replace("⏎", "⏎ "))
            elif by_place[place] == value:
                letters.append(f"<b style='color:#080'>{shown}</b>")
            else:
                wrong = html.escape(readable(tokens.decode([by_place[place]])))
                letters.append(f"<b style='color:#a00'>{shown}</b><s style='color:#a00'>{wrong}</s>")
        pages.append(f"<p class='example' style='font-family:monospace'>{''.join(letters)}</p>")
    return pages


def write_pretraining_report(run: str) -> None:
    """Write `RUN/report.html`."""
    folder = Path(run)
    model, info = load_model(run)
    training, held_out = read_lines(folder / METRICS_FILE), read_lines(folder / HELD_OUT_FILE)
    last = held_out[-1]
    parts = [
        table(
            (),
            [
                ("held-out text", number(last["bits_per_byte"], 3, "bits a byte")),
                ("asked tokens told right", percent(last["right"])),
                ("steps", str(last["step"])),
                ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
            ],
        ),
        "<h2>Training</h2>",
        picture(curves(training, held_out), "bits over steps"),
    ]
    if info.job == "masked":
        tokens = load_tokens(run)
        rows = Rows(folder / FOLDER / HELD_OUT, info.model.max_length)
        chosen = rows.stack(np.linspace(0, len(rows) - 1, min(SHOWN_ROWS, len(rows))).astype(int))
        parts += ["<h2>Masked text</h2>", "<p>Green: told right. Red: the true token, then what was told.</p>"]
        parts += told_text(model, info, chosen, tokens)
        if isinstance(model, PerceiverIO):
            parts += [
                "<h2>Where the latents look</h2>",
                picture(attention_picture(model, chosen[0], tokens), "attention"),
            ]
    write_page(folder / "report.html", f"Pretraining on text: {folder.name}", parts)
