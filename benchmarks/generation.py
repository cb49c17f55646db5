"""Perceiver AR with and without its cache: `python -m benchmarks.generation`.

Both generate the same number of bytes from the same prompt with the same weights, in turns in one run
(`benchmarks.harness` says how). The ratio is the uncached time over the cached one. Random weights cost what trained
ones cost. The bytes must agree, one by one.
"""

from __future__ import annotations

import argparse
import os
from functools import partial

import torch

from benchmarks.harness import Job, Settings, compare, ratios
from perceiver_core.presets import autoregressive_language_model


def generation_job(*, cached: bool, prompt: int, num_tokens: int, sizes: dict[str, int]) -> Job:
    """Greedy generation of `num_tokens` bytes after `prompt` random ones."""
    torch.manual_seed(0)
    model = autoregressive_language_model(**sizes).eval()  # type: ignore[arg-type]
    # At its initial value of zero, the output layer would make all bytes equally likely.
    torch.nn.init.normal_(model.final.weight)
    tokens = torch.randint(262, (1, prompt))
    return Job(run=lambda: {"bytes": model.generate(tokens, num_tokens, temperature=0.0, cached=cached)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 1536], help="lengths of the prompts, in bytes")
    parser.add_argument("--num-tokens", type=int, default=512, help="bytes to generate")
    parser.add_argument("--max-length", type=int, default=2048, help="longest context")
    parser.add_argument("--num-latents", type=int, default=256)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--num-self-attends", type=int, default=6)
    parser.add_argument("--num-heads", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads of both")
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help="cpu: needs --threads 1")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds of both, at least 3")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu adds the time of all threads up; it needs --threads 1")
    names = ("max_length", "num_latents", "channels", "num_self_attends", "num_heads")
    sizes = {name: getattr(arguments, name) for name in names}
    settings = Settings(
        threads=arguments.threads,
        cpu_clock=arguments.clock == "cpu",
        float32_precision="highest",
        rounds=arguments.rounds,
        seconds=600.0,
    )
    print(f"torch {torch.__version__}, {settings.threads} threads, {arguments.clock} clock, {sizes}")
    print("| prompt, bytes | generated | cached, s | uncached, s | ratio (least to greatest) | operations, ratio |")
    print("|---|---|---|---|---|---|")
    for prompt in arguments.prompts:
        job = partial(generation_job, prompt=prompt, num_tokens=arguments.num_tokens, sizes=sizes)
        cached, uncached = compare(
            {"cached": partial(job, cached=True), "uncached": partial(job, cached=False)}, settings
        )
        assert torch.equal(cached.outputs["bytes"], uncached.outputs["bytes"]), "the cache changed the bytes"
        middle, least, greatest = ratios(cached, uncached)
        print(
            f"| {prompt} | {arguments.num_tokens} | {cached.median:.2f} | {uncached.median:.2f} "
            f"| {middle:.1f} ({least:.1f} to {greatest:.1f}) | {uncached.operations / cached.operations:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
