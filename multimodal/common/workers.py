"""Batches from worker processes that may die: the sample that ends its process is found, left out and named.

Decoders are native code, and public files end processes: by a crash, or by the system when memory runs out. PyTorch's
data loader ends with the first process that dies. Here each process notes which sample it makes. A dead process is
replaced, and its batches are made again, in the same order and of the same samples. The sample under suspicion is
tried once more, before all others in its new process. If that one ends too, `SampleSource.without` stands in its place
from then on. Deaths that no sample explains are borne a few times; then the loader gives up and says so.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import time
import traceback
import weakref
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

import torch

from multimodal.common.errors import DataError
from multimodal.common.processes import LONGEST_SECONDS, TRIES, describe_exit

Key = TypeVar("Key")
Batch = TypeVar("Batch")

# Deaths during one batch that no sample explains: more of them are the machine's fault.
MAX_UNEXPLAINED = 4
# Samples given up one after another, with not one made in between: these are the machine's fault, too.
MAX_GIVEN_UP = 20
CHECK_SECONDS = 5.0
LEAVE_SECONDS = 1.0
# Orders that lie in a pipe together fit into its buffer, so that writing them never waits.
PIPE_BYTES = 2**15


class WorkersDied(DataError):
    """The processes that make batches end again and again, and no sample is to blame."""


class SampleSource(ABC, Generic[Key, Batch]):
    """What makes the samples of batches. It is pickled into every worker process."""

    @abstractmethod
    def sample(self, key: Key) -> Any:
        """Make a sample. It depends on `key` alone, since it may be made again."""

    @abstractmethod
    def without(self, key: Key, reason: str) -> Any:
        """What takes the place of a sample whose making ended its process."""

    @abstractmethod
    def origin(self, key: Key) -> Hashable:
        """What the sample is made of: a file, say. Other samples of it are not tried once one has been given up."""

    @abstractmethod
    def collate(self, samples: list[Any]) -> Batch:
        """Make a batch of the samples of its keys."""


class BatchLoader(Generic[Key, Batch]):
    """Batches of a source, in order. Iterating starts the processes; each iteration has its own."""

    def __init__(
        self,
        source: SampleSource[Key, Batch],
        batches: Iterable[Sequence[Key]],
        *,
        num_workers: int,
        prefetch: int = 2,
        pin: bool = False,
    ) -> None:
        """Args:
        source: makes the samples.
        batches: keys of each batch; may be endless.
        num_workers: processes; 0 makes the batches in this one, which then dies with them.
        prefetch: batches that each process makes ahead.
        pin: call `pin_memory()` of each batch.
        """
        self.source = source
        self.batches = batches
        self.num_workers = num_workers
        self.prefetch = prefetch
        self.pin = pin

    def __iter__(self) -> Iterator[Batch]:
        if self.num_workers > 0:
            return _Iteration(self)
        return (self._pinned(self._make(keys)) for keys in self.batches)

    def _make(self, keys: Sequence[Key]) -> Batch:
        return self.source.collate([self.source.sample(key) for key in keys])

    def _pinned(self, batch: Any) -> Any:
        return batch.pin_memory() if self.pin else batch


class _Iteration(Iterator[Batch]):
    """One pass over a loader's batches. The processes end with it."""

    def __init__(self, loader: BatchLoader[Any, Batch]) -> None:
        self._crew = _Crew(loader)
        self._finalizer = weakref.finalize(self, self._crew.stop)
        self._crew.thread.start()

    def __next__(self) -> Batch:
        return self._crew.take()


@dataclass(eq=False)
class _Task:
    """A batch to be made.

    Attributes:
        number: its place in the order.
        keys: its samples.
        suspect: position of the sample that is made first, since its process ended before.
        deaths: processes that ended in the meantime and that no sample explains.
    """

    number: int
    keys: Sequence[Any]
    suspect: int | None = None
    deaths: int = 0


@dataclass(frozen=True)
class _Failure:
    """An error of Python's in a worker process."""

    error: Exception
    text: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever an exception's own pickling may raise
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, text)

    def throw(self) -> None:
        self.error.add_note(f"in a loader's worker process:\n{self.text}")
        raise self.error


@dataclass(eq=False)
class _Worker:
    """A process, and what it has been told to do.

    Attributes:
        mark: where it is: number of the task, position in it (-1: in no sample), monotonic time since then.
        tasks: not yet answered, by number, in the order in which it makes them.
        sizes: bytes of each order in the pipe.
    """

    process: Any
    connection: Connection
    mark: Any
    tasks: dict[int, _Task] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def seconds_in_sample(self) -> float:
        task, position, since = self.mark
        return time.monotonic() - since if int(task) in self.tasks and position >= 0 else 0.0


class _Crew:
    """The worker processes of an iteration, and the thread that looks after them."""

    def __init__(self, loader: BatchLoader[Any, Any]) -> None:
        self.loader = loader
        # Not fork: this process may have threads (Ray, torch) whose locks a child would inherit in any state.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([type(loader.source).__module__])
        self.orders = enumerate(loader.batches)
        self.workers: list[_Worker] = []
        self.open: list[_Task] = []  # to be handed out before new ones: of dead workers, in order
        self.ended_by: dict[Hashable, int] = {}
        self.given_up: dict[Hashable, str] = {}
        self.given_up_in_a_row = 0
        self.length: int | None = None  # batches in all, once that is known
        # Shared with the thread that takes batches.
        self.changed = threading.Condition()
        self.ready: dict[int, Any] = {}
        self.taken = 0
        self.begun = 0
        self.error: BaseException | None = None
        self.stopping = False
        self.device = torch.cuda.current_device() if loader.pin else None
        self.wake, self.alarm = self.context.Pipe(duplex=False)
        self.thread = threading.Thread(target=self._run, name="batch-loader", daemon=True)

    def take(self) -> Any:
        """The next batch, when it is ready.

        Raises:
            StopIteration: there is none.
            WorkersDied: see there.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.taken in self.ready or self.error is not None or self._at_end())
            if self.taken not in self.ready:
                if self.error is not None:
                    raise self.error
                raise StopIteration
            batch = self.ready.pop(self.taken)
            self.taken += 1
        self.alarm.send_bytes(b"taken")
        return batch

    def stop(self) -> None:
        """End the thread and the processes."""
        self.stopping = True
        self.alarm.send_bytes(b"stop")
        if threading.current_thread() is not self.thread:  # which the garbage collector may call from
            self.thread.join()

    def _at_end(self) -> bool:
        return self.length is not None and self.taken >= self.length

    def _run(self) -> None:
        try:
            if self.device is not None:
                torch.cuda.set_device(self.device)
            for _ in range(self.loader.num_workers):
                self._hire()
            self._hand_out()
            while not self.stopping and (self.length is None or any(worker.tasks for worker in self.workers)):
                self._take_in()
                self._hand_out()
        except BaseException as error:  # for the thread that takes batches
            with self.changed:
                self.error = error
                self.changed.notify_all()
        finally:
            self._dismiss()

    def _dismiss(self) -> None:
        """Workers end when their pipe does; what is in the middle of a sample is not waited for long."""
        for worker in self.workers:
            worker.connection.close()
        deadline = time.monotonic() + LEAVE_SECONDS
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()

    def _hire(self) -> None:
        ours, theirs = self.context.Pipe()
        mark = self.context.RawArray("d", [-1.0, -1.0, 0.0])
        process = self.context.Process(target=_work, args=(self.loader.source, theirs, mark), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours, mark))

    def _hand_out(self) -> None:
        """Give the workers what they have room for, the least busy first."""
        while self.begun - self.taken < self.loader.num_workers * self.loader.prefetch or self.open:
            task = self._next_task()
            if task is None:
                return
            worker = min(self.workers, key=lambda worker: len(worker.tasks))
            lost = {
                position: self.given_up[origin]
                for position, key in enumerate(task.keys)
                if self.given_up and (origin := self.loader.source.origin(key)) in self.given_up
            }
            order = ForkingPickler.dumps((task.number, list(task.keys), lost, task.suspect))
            if worker.tasks and sum(worker.sizes.values()) + len(order) > PIPE_BYTES:
                self.open.insert(0, task)
                return
            worker.tasks[task.number], worker.sizes[task.number] = task, len(order)
            try:
                worker.connection.send_bytes(order)
            except OSError:  # it is dead, which its end of the pipe will show
                return

    def _next_task(self) -> _Task | None:
        if self.open:
            return self.open.pop(0)
        number, keys = next(self.orders, (None, ()))
        if number is None:
            with self.changed:
                self.length = self.begun
                self.changed.notify_all()
            return None
        self.begun += 1
        return _Task(number, keys)

    def _take_in(self) -> None:
        """Wait for batches, deaths and calls, and deal with them."""
        by_connection = {worker.connection: worker for worker in self.workers}
        for ready in wait([*by_connection, self.wake], timeout=CHECK_SECONDS):
            if ready is self.wake:
                self.wake.recv_bytes()
            else:
                assert isinstance(ready, Connection)
                self._receive(by_connection[ready])
        for worker in list(self.workers):
            if worker.seconds_in_sample() > LONGEST_SECONDS:
                worker.process.kill()
                self._bury(worker, f"took longer than {LONGEST_SECONDS:g} s")

    def _receive(self, worker: _Worker) -> None:
        try:
            number, batch = worker.connection.recv()
        except Exception as error:
            # The pipe of a dead process is at its end, and what it left in shared memory may be gone with it.
            worker.process.join(CHECK_SECONDS)
            if worker.process.is_alive() and not isinstance(error, EOFError):
                raise
            worker.process.kill()
            worker.process.join()
            self._bury(worker, f"ended its process ({describe_exit(worker.process.exitcode)})")
            return
        if isinstance(batch, _Failure):
            batch.throw()
        if self.loader.pin:
            batch = batch.pin_memory()
        task = worker.tasks.pop(number)
        del worker.sizes[number]
        if task.suspect is not None:  # it was made this time
            self.ended_by.pop(self.loader.source.origin(task.keys[task.suspect]), None)
        if any(self.loader.source.origin(key) not in self.given_up for key in task.keys):
            self.given_up_in_a_row = 0
        with self.changed:
            self.ready[number] = batch
            self.changed.notify_all()

    def _bury(self, worker: _Worker, how: str) -> None:
        """Find out what ended a worker, and have its tasks done by a new one."""
        self.workers.remove(worker)
        worker.connection.close()
        tasks = list(worker.tasks.values())
        number, position = int(worker.mark[0]), int(worker.mark[1])
        if number in worker.tasks and position >= 0:
            self._accuse(worker.tasks[number], position, how)
        elif tasks:
            tasks[0].deaths += 1
        for task in tasks:
            if task.deaths > MAX_UNEXPLAINED:
                raise WorkersDied(_explain(f"{task.deaths} processes that load data ended, no sample explains it", how))
        self.open = sorted([*self.open, *tasks], key=lambda task: task.number)
        self._hire()

    def _accuse(self, task: _Task, position: int, how: str) -> None:
        origin = self.loader.source.origin(task.keys[position])
        task.suspect = position
        task.deaths += 1
        self.ended_by[origin] = self.ended_by.get(origin, 0) + 1
        if self.ended_by[origin] < TRIES:
            return
        self.given_up[origin] = f"{how}, {TRIES} times"
        task.suspect = None
        task.deaths -= TRIES
        self.given_up_in_a_row += 1
        if self.given_up_in_a_row > MAX_GIVEN_UP:
            raise WorkersDied(_explain(f"{self.given_up_in_a_row} samples in a row ended their processes", how))


def _explain(what: str, how: str) -> str:
    """A sentence with what to do."""
    if "SIGKILL" in how:
        advice = "the system kills processes when memory runs out: ask for fewer workers, or fewer batches ahead"
    elif "SIGBUS" in how:
        advice = "shared memory may be full: enlarge /dev/shm, or ask for fewer workers, or fewer batches ahead"
    else:
        advice = "what they said before is on the standard error stream"
    return f"{what}; the last {how}. Remedy: {advice}"


def _work(source: SampleSource[Any, Any], connection: Connection, mark: Any) -> None:
    """What a worker process does: orders in, batches out, until the loader is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the loader ends its workers itself
    torch.set_num_threads(1)
    while True:
        try:
            number, keys, lost, suspect = connection.recv()
        except EOFError:
            return
        try:
            samples: list[Any] = [None] * len(keys)
            for position in sorted(range(len(keys)), key=lambda position: position != suspect):
                if position in lost:
                    samples[position] = source.without(keys[position], lost[position])
                    continue
                mark[2], mark[0], mark[1] = time.monotonic(), number, position
                samples[position] = source.sample(keys[position])
                mark[1] = -1
            answer = source.collate(samples)
        except Exception as error:
            answer = _Failure.of(error)
        mark[1] = -1
        if not _send(connection, (number, answer)):
            return


def _send(connection: Connection, answer: tuple[int, Any]) -> bool:
    """Send a batch; False if nobody is there to take it."""
    try:
        connection.send(answer)
    except BrokenPipeError:
        return False
    except Exception as error:  # too little shared memory, or a batch that cannot be pickled
        connection.send((answer[0], _Failure.of(error)))
    return True
