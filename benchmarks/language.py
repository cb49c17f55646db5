"""Time and memory of a training step on long texts: `python -m benchmarks.language`.

A masked language model's forward and backward pass on one row of bytes, 15% of them masked: a Perceiver IO beside a
Transformer of the same width, and of as many layers as the Perceiver IO has with its cross-attend to the inputs. Both
take their turns in one run (`benchmarks.harness` says how). The Transformer's attention is torch's
`scaled_dot_product_attention`, so neither model ever holds all scores.

`--sizes published` takes the published model's 26 layers and widths; the others are small enough for long rows.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from benchmarks.harness import Job, Measurement, Outputs, Settings, compare, ratios
from multimodal.language.model import LanguageSizes, build_masked, preset
from multimodal.language.transformer import TextTransformer
from perceiver_core.accelerated import kernels

PERCEIVER, TRANSFORMER = "Perceiver IO", "Transformer"


def sizes_of(name: str, length: int, self_attends: int) -> LanguageSizes:
    """The Perceiver IO of a size, for rows of `length` bytes."""
    if name == "published":
        return replace(preset("paper", 262, max_length=length), num_self_attends=self_attends)
    small = preset("tiny", 262, max_length=length, num_latents=256)
    return replace(
        small,
        channels=64,
        latent_channels=64,
        latent_qk_channels=64,
        num_heads=4,
        num_self_attends=self_attends,
        gain=None,
        n_grams=(),
    )


def transformer_of(sizes: LanguageSizes) -> LanguageSizes:
    """The Transformer of the same token width and depth, with BERT's feed-forward networks."""
    return replace(
        sizes, encoder="transformer", num_self_attends=sizes.num_self_attends + 1, widening_factor=4, gain=None
    )


def step_job(sizes: LanguageSizes) -> Job:
    """A forward and a backward pass."""
    torch.manual_seed(0)
    model = build_masked(sizes)
    if isinstance(model, TextTransformer):
        # Torch's fused attention everywhere, as asked for; the Perceiver IO keeps the package's own choice.
        kernels.prefers_blocks = lambda keys, values: False  # type: ignore[assignment]
    tokens = torch.randint(6, 262, (1, sizes.max_length))
    positions = torch.randperm(sizes.max_length)[: int(0.15 * sizes.max_length)].sort().values
    targets = tokens[0, positions]

    def run() -> Outputs:
        model.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(tokens, None, positions)[0], targets)
        loss.backward()
        return {"loss": loss.detach()[None]}

    return Job(run=run)


def plot(path: Path, lengths: list[int], found: dict[str, list[Measurement]]) -> None:
    """Seconds and memory over the length, on logarithmic axes."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, measured in found.items():
        axes[0].plot(lengths, [m.median for m in measured], "o-", label=name)
        axes[1].plot(lengths, [m.peak_bytes / 1e6 for m in measured], "o-", label=name)
    for axis, label in zip(axes, ("seconds a step", "peak memory, MB"), strict=True):
        axis.set(xlabel="bytes of a row", ylabel=label, xscale="log", yscale="log")
        axis.set_xticks(lengths, [f"{length:,}" for length in lengths], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="small", choices=("small", "published"))
    parser.add_argument("--self-attends", type=int, help="layers over the latents; default 1, or the published 26")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192, 32768], help="bytes of a row")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads of both")
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help="cpu: needs --threads 1")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds of both, at least 3")
    parser.add_argument("--plot", help="PNG file")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu adds the time of all threads up; it needs --threads 1")
    settings = Settings(
        threads=arguments.threads,
        cpu_clock=arguments.clock == "cpu",
        float32_precision="highest",
        rounds=arguments.rounds,
        seconds=600.0,
    )
    print(f"torch {torch.__version__}, {settings.threads} threads, {arguments.clock} clock")
    depth = arguments.self_attends or {"small": 1, "published": 26}[arguments.sizes]
    print(json.dumps(asdict(sizes_of(arguments.sizes, arguments.lengths[0], depth))))
    print("| bytes | Perceiver IO, s | Transformer, s | ratio (least to greatest) | MB | MB | GFLOP | GFLOP |")
    print("|---|---|---|---|---|---|---|---|")
    found: dict[str, list[Measurement]] = {PERCEIVER: [], TRANSFORMER: []}
    for length in arguments.lengths:
        sizes = sizes_of(arguments.sizes, length, depth)
        jobs = {PERCEIVER: partial(step_job, sizes), TRANSFORMER: partial(step_job, transformer_of(sizes))}
        ours, theirs = compare(jobs, settings)
        found[PERCEIVER].append(ours)
        found[TRANSFORMER].append(theirs)
        middle, least, greatest = ratios(ours, theirs)
        print(
            f"| {length:,} | {ours.median:.3f} | {theirs.median:.3f} | {middle:.2f} ({least:.2f} to {greatest:.2f}) "
            f"| {ours.peak_bytes / 1e6:.0f} | {theirs.peak_bytes / 1e6:.0f} "
            f"| {ours.operations / 1e9:.1f} | {theirs.operations / 1e9:.1f} |",
            flush=True,
        )
    if arguments.plot:
        plot(Path(arguments.plot), arguments.lengths, found)


if __name__ == "__main__":
    main()
