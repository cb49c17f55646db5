"""Times several implementations of one job side by side and measures each one's peak memory.

Every contender lives in a process of its own, so that its peak resident memory is its own and no allocator state leaks
into the next one. The processes take turns: round 1 of every contender, then round 2, and so on, with one thread count
and one float32 product precision for all. A machine whose speed drifts thus drifts for all of them, and ratios are
taken round by round. The machine's matrix-product rate is measured in the same rounds, by a contender of its own.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Outputs = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One contender's work, built in its own process.

    `run` does the work once and returns what it computed, detached. `scale` multiplies the time and the operation
    count of one `run` where the whole job repeats it (a loop of 128 equal chunks, of which one is run). `compared`
    picks what is compared of the outputs; it is not timed.
    """

    run: Callable[[], Outputs]
    scale: float = 1.0
    compared: Callable[[Outputs], Outputs] = lambda outputs: outputs


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all contenders of a run share.

    `cpu_clock` counts the processor time of the process in the place of the time on the wall. With one thread it is
    about what the wall clock would show on an idle machine, so that figures can be taken on a busy one.
    """

    threads: int
    cpu_clock: bool
    float32_precision: str
    rounds: int
    seconds: float


@dataclass(kw_only=True)
class Measurement:
    """What one contender did: seconds of each round (scaled), peak memory in bytes, operations, outputs."""

    name: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    operations: float = 0.0
    outputs: Outputs = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def _resident_bytes(field_name: str) -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field_name}: peak memory is measured on Linux only")


def _reset_peak() -> int:
    """Forget the process's peak resident memory; returns the present resident memory in bytes."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    return _resident_bytes("VmRSS")


class OperationCounter(TorchDispatchMode):
    """Counts the operations (twice the multiply-adds) of matrix products, convolutions and fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and packet not in _CPU_ATTENTION:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if packet in flop_registry:
            self.operations += flop_registry[packet](*args, **kwargs, out_val=out)
        elif packet in _CPU_ATTENTION:
            first = 1 if "backward" in str(packet) else 0
            query, key, value = args[first : first + 3]
            pairs = query.shape[:-1].numel() * key.shape[-2]
            per_query, per_value = _CPU_ATTENTION[packet]
            self.operations += 2 * pairs * (per_query * query.shape[-1] + per_value * value.shape[-1])
        return out


# Products as wide as the queries and as wide as the values, per pair of query and key; torch's registry of operations
# has only the GPU's kernels. The backward pass repeats the scores and makes two products for each of the three inputs.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (1, 1),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (3, 2),
}


def _serve(connection: Connection, build: Callable[[], Job], settings: Settings) -> None:
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision(settings.float32_precision)
    torch.manual_seed(0)
    clock = time.process_time if settings.cpu_clock else time.perf_counter
    job = build()
    before = _reset_peak()
    connection.send("ready")
    while True:
        match connection.recv():
            case "run":
                start = clock()
                outputs = job.run()
                connection.send((clock() - start) * job.scale)
                del outputs
            case "peak":
                connection.send(_resident_bytes("VmHWM") - before)
            case "count":
                # Torch's fused Transformer layer hides its products from the counter.
                torch.backends.mha.set_fastpath_enabled(False)
                with OperationCounter() as counter:
                    outputs = job.run()
                arrays = {name: output.float().numpy() for name, output in job.compared(outputs).items()}
                connection.send((counter.operations * job.scale, arrays))
                del outputs, arrays
            case "stop":
                return


@contextmanager
def _process(build: Callable[[], Job], settings: Settings) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, build, settings), daemon=True)
    process.start()
    there.close()
    try:
        yield here
        here.send("stop")
        process.join()
    finally:
        process.terminate()


def _ask(connection: Connection, question: str) -> Any:
    connection.send(question)
    return connection.recv()


def products(dtype: torch.dtype, size: int = 2048, repeats: int = 8) -> Job:
    """The yardstick: dense square matrix products of `2 size^3` operations each."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    out = torch.empty(size, size, dtype=dtype)

    def run() -> Outputs:
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        return {}

    return Job(run=run)


def compare(builders: dict[str, Callable[[], Job]], settings: Settings) -> list[Measurement]:
    """Run every contender in turns, `settings.rounds` rounds, at least three, fewer once `settings.seconds` are over.

    A first round that is not counted warms every contender up; its memory counts.
    """
    results = [Measurement(name=name) for name in builders]
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(build, settings)) for build in builders.values()]
        for process in processes:
            if process.recv() != "ready":
                raise RuntimeError("a contender did not come up")
        for process in processes:
            _ask(process, "run")
        start = time.perf_counter()
        for done in range(settings.rounds):
            if done >= 3 and time.perf_counter() - start > settings.seconds:
                break
            for process, result in zip(processes, results, strict=True):
                result.seconds.append(_ask(process, "run"))
        for process, result in zip(processes, results, strict=True):
            result.peak_bytes = _ask(process, "peak")
            result.operations, arrays = _ask(process, "count")
            result.outputs = {key: torch.from_numpy(array) for key, array in arrays.items()}
    return results


def ratios(ours: Measurement, other: Measurement) -> tuple[float, float, float]:
    """How many times longer `other` takes: the median of the rounds' ratios, the least and the greatest."""
    each = [theirs / mine for theirs, mine in zip(other.seconds, ours.seconds, strict=True)]
    return statistics.median(each), min(each), max(each)
