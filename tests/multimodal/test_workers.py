"""Worker processes that really die: by a crash, by the system, by hand, at any place."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import pytest
import torch

from multimodal.common import workers
from multimodal.common.workers import BatchLoader, SampleSource, WorkersDied
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@dataclass
class Numbers(SampleSource[int, torch.Tensor]):
    """Samples are numbers; some end the process that makes them.

    Attributes:
        deadly: signal by which a number ends its process; 0 never returns.
        once: numbers that do so the first time only; the folder remembers.
        folder: where the processes note what they made.
        at: "sample" or "collate", the place of death.
    """

    folder: Path
    deadly: dict[int, int] = field(default_factory=dict)
    once: frozenset[int] = frozenset()
    at: str = "sample"

    def sample(self, key: int) -> torch.Tensor:
        if self.at == "sample":
            self._die_of(key)
        return torch.full((1000,), key)

    def _die_of(self, key: int) -> None:
        if key not in self.deadly:
            return
        note = self.folder / f"{key}"
        first = not note.exists()
        with note.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        if first or key not in self.once:
            if self.deadly[key]:
                os.kill(os.getpid(), self.deadly[key])
            time.sleep(PATIENCE)

    def without(self, key: int, reason: str) -> torch.Tensor:
        (self.folder / f"without-{key}").write_text(reason)
        return torch.full((1000,), -key)

    def origin(self, key: int) -> Hashable:
        return key

    def collate(self, samples: list[torch.Tensor]) -> torch.Tensor:
        if self.at == "collate":
            for sample in samples:
                self._die_of(int(sample[0]))
        return torch.stack(samples)

    def deaths(self, key: int) -> int:
        """How many processes tried the number."""
        return len((self.folder / f"{key}").read_text().split())


def batches_of(size: int, number: int) -> list[list[int]]:
    return [list(range(first, first + size)) for first in range(1, size * number, size)]


def values(batches: list[torch.Tensor]) -> list[list[int]]:
    return [batch[:, 0].tolist() for batch in batches]


def test_batches_come_in_order_from_any_number_of_processes(tmp_path: Path) -> None:
    order = batches_of(3, 20)
    for num_workers in (0, 1, 3):
        loader = BatchLoader(Numbers(tmp_path), order, num_workers=num_workers, prefetch=2)
        assert values(list(loader)) == order
        assert values(list(loader)) == order, "a second iteration begins anew"
    endless = BatchLoader(Numbers(tmp_path), ([number] for number in count()), num_workers=2, prefetch=3)
    assert values(list(islice(endless, 30))) == [[number] for number in range(30)]


@pytest.mark.parametrize("kind", [signal.SIGSEGV, signal.SIGKILL, signal.SIGBUS, signal.SIGABRT])
def test_a_sample_that_ends_its_process_is_left_out_and_named(tmp_path: Path, kind: signal.Signals) -> None:
    source = Numbers(tmp_path, deadly={8: kind, 20: kind, 21: kind})
    order = batches_of(4, 10)
    got = values(list(BatchLoader(source, order, num_workers=2)))
    assert got == [[-key if key in source.deadly else key for key in keys] for keys in order]
    for key in source.deadly:
        assert source.deaths(key) == 2
        assert (tmp_path / f"without-{key}").read_text() == f"ended its process (signal {kind}, {kind.name}), 2 times"


def test_what_was_given_up_is_not_tried_again(tmp_path: Path) -> None:
    source = Numbers(tmp_path, deadly={2: signal.SIGKILL})
    got = values(list(BatchLoader(source, [[1, 2]] * 12, num_workers=1, prefetch=1)))
    assert got == [[1, -2]] * 12
    assert source.deaths(2) == 2


def test_a_process_that_something_else_ended_costs_no_sample(tmp_path: Path) -> None:
    source = Numbers(
        tmp_path, deadly={7: signal.SIGKILL, 8: signal.SIGSEGV, 30: signal.SIGKILL}, once=frozenset({7, 8, 30})
    )
    order = batches_of(4, 10)
    assert values(list(BatchLoader(source, order, num_workers=2))) == order
    # The death at 8 had its batch made anew, with 7 in it.
    assert [source.deaths(key) for key in (7, 8, 30)] == [3, 2, 2]
    assert not list(tmp_path.glob("without-*"))


def test_processes_killed_by_hand_at_any_moment(tmp_path: Path) -> None:
    order = batches_of(3, 60)
    loaded = iter(BatchLoader(Numbers(tmp_path), order, num_workers=2, prefetch=3))
    got = []
    for number in range(60):
        got.append(next(loaded))
        if number % 12 == 5:
            victims = multiprocessing.active_children()
            assert len(victims) >= 1
            os.kill(int(victims[number % len(victims)].pid or 0), signal.SIGKILL)
    assert values(got) == order
    with pytest.raises(StopIteration):
        next(loaded)
    assert not list(tmp_path.glob("without-*"))


def test_a_sample_that_never_ends_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LONGEST_SECONDS", 4.0)
    monkeypatch.setattr(workers, "CHECK_SECONDS", 0.2)
    source = Numbers(tmp_path, deadly={5: 0})
    got = values(list(BatchLoader(source, batches_of(4, 3), num_workers=1)))
    assert got == [[1, 2, 3, 4], [-5, 6, 7, 8], [9, 10, 11, 12]]
    assert (tmp_path / "without-5").read_text() == "took longer than 4 s, 2 times"


@pytest.mark.parametrize(("kind", "advice"), [(signal.SIGKILL, "memory"), (signal.SIGBUS, "shared memory")])
def test_processes_that_no_sample_explains_end_the_loader(tmp_path: Path, kind: signal.Signals, advice: str) -> None:
    source = Numbers(tmp_path, deadly={6: kind}, at="collate")
    with pytest.raises(WorkersDied, match=rf"5 processes that load data ended, no sample .*{kind.name}.*{advice}"):
        list(BatchLoader(source, batches_of(4, 10), num_workers=2))


def test_samples_that_all_end_their_processes_end_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_GIVEN_UP", 3)
    source = Numbers(tmp_path, deadly=dict.fromkeys(range(1, 100), int(signal.SIGKILL)))
    with pytest.raises(WorkersDied, match="4 samples in a row ended their processes"):
        list(BatchLoader(source, batches_of(4, 10), num_workers=1))


class Raising(Numbers):
    def sample(self, key: int) -> torch.Tensor:
        if key == 9:
            raise LookupError("there is no nine")
        return super().sample(key)


def test_errors_of_python_are_raised_with_their_trace(tmp_path: Path) -> None:
    loaded = iter(BatchLoader(Raising(tmp_path), batches_of(4, 4), num_workers=1))
    with pytest.raises(LookupError, match="there is no nine") as caught:
        list(loaded)
    assert "in sample" in caught.value.__notes__[0]


def test_long_orders_do_not_block_the_pipe(tmp_path: Path) -> None:
    order = [list(range(20_000)) for _ in range(6)]
    loader = BatchLoader(Numbers(tmp_path), order, num_workers=1, prefetch=6)
    assert sum(1 for _ in loader) == 6


def test_an_iteration_that_is_dropped_takes_its_processes_along(tmp_path: Path) -> None:
    before, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        loaded = iter(BatchLoader(Numbers(tmp_path), batches_of(4, 1000), num_workers=2))
        next(loaded)
        assert multiprocessing.active_children()
        del loaded
        gc.collect()
        assert not multiprocessing.active_children()
    assert threading.active_count() == before
    assert len(os.listdir("/proc/self/fd")) <= handles + 4, "file handles are left open"


def test_processes_end_with_the_one_they_work_for(tmp_path: Path) -> None:
    program = (
        "import multiprocessing, sys, time; from pathlib import Path\n"
        "from tests.multimodal.test_workers import BatchLoader, Numbers, batches_of\n"
        "if __name__ == '__main__':\n"
        "    loaded = iter(BatchLoader(Numbers(Path(sys.argv[1])), batches_of(4, 1000), num_workers=2))\n"
        "    next(loaded)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True, cwd=ROOT
    )
    assert command.stdout is not None
    children = [int(pid) for pid in command.stdout.readline().split()]
    assert len(children) == 2
    command.kill()
    command.wait()
    began = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() - began < PATIENCE, "worker processes outlive the one they work for"
        time.sleep(0.05)
