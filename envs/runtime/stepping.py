"""A whole environment step as one compiled call per thread.

The phases of `envs.runtime.driver` are compiled one by one, only those of the views in use, and called here by their
addresses. Fused into one function, all of them would be compiled anew for every combination of views.

Threads share a work queue: each takes the next chunk of worlds and brings it through all phases. No thread waits for
another before the end of the step. A worker spins in compiled code for a moment after a step. A step that follows soon
begins at once, without a wake-up and without Python's lock. With 64 worlds of 3m a wake-up takes as long as the step.

    main thread   start_workers   chunk, chunk, ...   wait_for_workers     (next step)
    worker        SPINNING -> WORKING: chunk, chunk, ... -> SPINNING ... -> ASLEEP after `spins` looks
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from envs.engine.state.compilation import entry, kernel
from envs.runtime import atomics
from envs.runtime.phases import Phase
from envs.runtime.struct_fields import call_phase, fields_of, fields_pointer
from envs.runtime.threads import ThreadPool

# Most worlds that go through the phases together; fewer where threads share few worlds. A step of 3m took a tenth
# longer with 16 than with 128, because every phase has to come back into the processor's caches. More gained nothing.
CHUNK = 128
CHUNKS_PER_THREAD = 4
# How often a worker looks for the next step before it sleeps: some 50 ns each.
SPINS_PER_WORLD, MOST_SPINS = 100, 10_000
# How often the main thread looks for the end of a step before it sleeps between two looks, and how long.
MAIN_SPINS = 20_000
POLL_SECONDS = 2e-5

# The control block that the threads share: int64, a cache line (8 words) for each thing.
C_OUTPUT = 0  # which of the two outputs is written
C_FINISHED = 8  # workers that have finished their part
C_THREADS = 16  # one record a thread, the main thread's first
RECORD_WORDS = 8
# The first word of a worker's record. STOPPING: told to sleep, but not asleep yet.
ASLEEP, SPINNING, WORKING, STOPPING = range(4)
NEXT_CHUNK = 1  # the second word of every record: the next of the chunks that the thread takes first


@kernel
def _any_ended(context, first, last):
    """Whether any of these worlds starts anew; `context` is a pointer to its fields."""
    restart = fields_of(context)[6]
    found = False
    for b in range(first, last):
        found |= restart[b]
    return found


@entry
def step_worlds(context, output, final, addresses, observers, loops, control, chunk, thread):
    """Brings worlds, `chunk` at a time, through all phases of a step until none is left.

    Each thread begins with chunks of its own, the same in every step, because these are in its core's caches. Then it
    takes what others have left.

    Args:
        context, output, final: structures; `final` receives what the worlds that ended looked like.
        addresses: of `Stepper`'s phases.
        observers: int64 [number of observers]: their addresses.
        loops: game loops of a step.
        control: int64 [C_THREADS + threads * RECORD_WORDS], the control block.
        chunk: worlds that go through the phases together.
        thread: which thread this is, 0 = main.
    """
    worlds = context.restart.shape[0]
    world, now, ended = fields_pointer(context), fields_pointer(output), fields_pointer(final)
    command, oppose, advance, score, start, begin = addresses
    threads = (control.shape[0] - C_THREADS) // RECORD_WORDS
    chunks = (worlds + chunk - 1) // chunk
    for ahead in range(threads):
        owner = (thread + ahead) % threads
        while True:
            number = owner * chunks // threads + atomics.add(control, C_THREADS + owner * RECORD_WORDS + NEXT_CHUNK, 1)
            if number >= (owner + 1) * chunks // threads:
                break
            first = number * chunk
            last = min(first + chunk, worlds)
            call_phase(command, (world, first, last))
            if oppose != 0:
                call_phase(oppose, (world, first, last))
            call_phase(advance, (world, loops, first, last))
            call_phase(score, (world, first, last))
            if _any_ended(world, first, last):
                for observe in observers:
                    call_phase(observe, (world, ended, True, first, last))
                call_phase(start, (world, first, last))
                call_phase(begin, (world, first, last))
            for observe in observers:
                call_phase(observe, (world, now, False, first, last))


@entry
def run_main_thread(context, output, final, addresses, observers, loops, control, chunk, workers):
    """The main thread's part of a step. False: after some waiting there are workers that have not finished."""
    step_worlds(context, output, final, addresses, observers, loops, control, chunk, 0)
    return wait_for_workers(control, workers)


@entry
def run_worker(
    context, output_0, final_0, output_1, final_1, addresses, observers, loops, control, chunk, worker, spins
):
    """The part of a worker (1, 2, ...) of this step, and of the steps that follow soon."""
    record = C_THREADS + worker * RECORD_WORDS
    while True:
        first = control[C_OUTPUT] == 0
        output, final = (output_0, final_0) if first else (output_1, final_1)
        step_worlds(context, output, final, addresses, observers, loops, control, chunk, worker)
        atomics.store(control, record, SPINNING)
        atomics.add(control, C_FINISHED, 1)
        looks = 0
        while atomics.load(control, record) == SPINNING:
            looks += 1
            # Asleep by its own doing it must not look at its record again: the next step starts the worker anew.
            if looks > spins and atomics.exchange(control, record, SPINNING, ASLEEP):
                return
            atomics.relax()
        if atomics.load(control, record) == STOPPING:
            atomics.store(control, record, ASLEEP)
            return


@entry
def finish_failed(control, worker):
    """A worker's last act when its part has failed."""
    atomics.store(control, C_THREADS + worker * RECORD_WORDS, ASLEEP)
    atomics.add(control, C_FINISHED, 1)


@entry
def start_workers(control, workers):
    """Gives work to every worker; returns a bit for each that sleeps and has to be woken."""
    asleep = 0
    for worker in range(1, workers + 1):
        record = C_THREADS + worker * RECORD_WORDS
        if not atomics.exchange(control, record, SPINNING, WORKING):
            # Given work before it sleeps, it would go on, and be started a second time too.
            while atomics.load(control, record) == STOPPING:
                atomics.relax()
            atomics.store(control, record, WORKING)
            asleep |= 1 << worker
    return asleep


@entry
def stop_workers(control, workers):
    """Tells all workers that spin to sleep."""
    for worker in range(1, workers + 1):
        atomics.exchange(control, C_THREADS + worker * RECORD_WORDS, SPINNING, STOPPING)


@entry
def wait_for_workers(control, workers):
    """Whether all workers have finished, after some waiting for it."""
    for _ in range(MAIN_SPINS):
        if atomics.load(control, C_FINISHED) == workers:
            return True
        atomics.relax()
    return False


class Stepper:
    """The compiled step of one environment.

    Args:
        context: `driver.make_context`'s.
        worlds: how many worlds it holds.
        outputs: two `driver.make_output`, which steps write in turn.
        finals: two more, for the last observations of the worlds that ended.
        loops: game loops of a step.
        threads: how many threads step, the caller's included.
        command: gives the agents' orders.
        oppose: gives the scripted opponents' orders, or None.
        advance, score, start, begin: what follows, see `envs.runtime.driver`.
        observers: the observers of the views in use.
    """

    def __init__(
        self,
        context: Any,
        worlds: int,
        outputs: tuple[Any, Any],
        finals: tuple[Any, Any],
        *,
        loops: int,
        threads: int,
        command: Phase,
        oppose: Phase | None,
        advance: Phase,
        score: Phase,
        start: Phase,
        begin: Phase,
        observers: Sequence[Phase],
    ) -> None:
        addresses = (
            command.address(context, 0, 0),
            0 if oppose is None else oppose.address(context, 0, 0),
            advance.address(context, 0, 0, 0),
            score.address(context, 0, 0),
            start.address(context, 0, 0),
            begin.address(context, 0, 0),
        )
        seen_by = np.array([observer.address(context, outputs[0], False, 0, 0) for observer in observers], np.int64)
        chunk = CHUNK
        if threads > 1:
            chunk = max(1, min(CHUNK, worlds // (CHUNKS_PER_THREAD * threads)))
        self._workers = threads - 1
        self._spins = min(SPINS_PER_WORLD * worlds, MOST_SPINS)
        self._control = np.zeros(C_THREADS + threads * RECORD_WORDS, np.int64)
        self._errors: list[BaseException] = []
        self._context = context
        self._outputs = tuple(zip(outputs, finals, strict=True))
        self._arguments = (addresses, seen_by, loops, self._control, chunk)

    def step(self, turn: int, pool: ThreadPool | None) -> None:
        """One step of all worlds into the outputs of `turn` (0 or 1); `pool` has the workers, None without any.

        Raises:
            BaseException: what a worker raised.
        """
        control = self._control
        control[C_OUTPUT], control[C_FINISHED] = turn, 0
        control[C_THREADS + NEXT_CHUNK :: RECORD_WORDS] = 0
        if pool is not None:
            pool.before_work = self._stop_workers
            asleep = start_workers(control, self._workers)
            for worker in range(1, self._workers + 1):
                if asleep >> worker & 1:
                    pool.start(partial(self._work, worker))
        if not run_main_thread(self._context, *self._outputs[turn], *self._arguments, self._workers):
            while not wait_for_workers(control, self._workers):
                time.sleep(POLL_SECONDS)
        if self._errors:
            raise self._errors.pop()

    def _stop_workers(self) -> None:
        stop_workers(self._control, self._workers)

    def _work(self, worker: int) -> None:
        try:
            run_worker(self._context, *self._outputs[0], *self._outputs[1], *self._arguments, worker, self._spins)
        except BaseException as error:
            self._errors.append(error)
            finish_failed(self._control, worker)
