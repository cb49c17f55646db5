"""Entity encoders side by side: floating-point operations and time of Perceiver IO, the 3-layer Transformer, deep sets.

    python -m benchmarks.encoders [--entities 512] [--valid 60] [--batch 4] [--channels 256]

FLOPs are counted by torch's own counter in what each module executes (forward, all slots valid, so that no encoder
gains from padding). Times are forward plus backward in one process, alternating, the median of the rounds; with
`--valid` only that many entities (mean) exist in each scene, as in a game.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from agents.models.encoders import ENCODERS, build_encoder

# AlphaStar's entity Transformer has 3 layers of 256 channels; 32 latents are arXiv:2107.14795's, section 4.5.
NUM_LAYERS = 3
NUM_LATENTS = 32
NUM_HEADS = 2


def make_encoder(name: str, channels: int) -> nn.Module:
    torch.manual_seed(0)
    return build_encoder(name, channels, num_heads=NUM_HEADS, num_layers=NUM_LAYERS, num_latents=NUM_LATENTS)


def count_flops(encoder: nn.Module, entities: int, channels: int) -> int:
    """FLOPs of one forward pass over one full scene of `entities` entities."""
    x, mask = torch.randn(1, entities, channels), torch.ones(1, entities, dtype=torch.bool)
    # The counter knows plain products only, not every fused CPU kernel of attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(x, mask)
    return counter.get_total_flops()


def train_step(encoder: nn.Module, x: Tensor, mask: Tensor) -> None:
    encoder.zero_grad()
    out = encoder(x, mask)
    (out.per_entity.sum() + out.summary.sum()).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=512, help="slots of a scene")
    parser.add_argument(
        "--valid", type=int, default=60, help="mean number of entities that exist, in the second timing"
    )
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    encoders = {name: make_encoder(name, args.channels) for name in ENCODERS}
    flops = {name: count_flops(encoder, args.entities, args.channels) for name, encoder in encoders.items()}
    x = torch.randn(args.batch, args.entities, args.channels)
    full = torch.ones(args.batch, args.entities, dtype=torch.bool)
    game = torch.rand(args.batch, args.entities) < args.valid / args.entities
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.rounds + 1):
        for name, encoder in encoders.items():
            for label, mask in (("full", full), ("game", game)):
                start = time.perf_counter()
                train_step(encoder, x, mask)
                times.setdefault((name, label), []).append(time.perf_counter() - start)
    print(
        f"{args.entities} slots, {args.channels} channels, {NUM_LAYERS} layers, {NUM_LATENTS} latents, "
        f"batch {args.batch}"
    )
    print(f"{'encoder':<14}{'GFLOPs':>9}{'fewer':>8}{'full ms':>10}{f'{args.valid} valid ms':>14}")
    for name in ENCODERS:
        full_ms, game_ms = (1e3 * statistics.median(times[name, label][1:]) for label in ("full", "game"))
        fewer = flops["transformer"] / flops[name]
        print(f"{name:<14}{flops[name] / 1e9:>9.3f}{fewer:>7.2f}x{full_ms:>10.1f}{game_ms:>14.1f}")


if __name__ == "__main__":
    main()
