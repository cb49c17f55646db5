"""A whole environment step as one compiled call per thread.

The phases of `envs.runtime.driver` are compiled one by one, those of the views in use only, and called here by their
addresses: fusing them into one function would compile all of them anew for every combination of views. Threads take the
next few worlds from one counter and lead them through all phases, so that none waits for another before the step's end.

A thread that helps stays in compiled code for a moment after a step: where the next one follows soon it begins at once,
without being woken and without Python's lock (with 64 worlds of 3m that takes as long as the step itself).
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
from envs.runtime.struct_fields import borrow, fields_of, run
from envs.runtime.threads import Crew

# Worlds that go through the phases together, at most; fewer where threads share few worlds. With 16 a step of 3m took a
# tenth longer than with 128: every phase has to come back into the processor's caches. With more nothing was gained.
PORTION = 128
PORTIONS_PER_THREAD = 4
# How often a helper looks for the next step before it sleeps, and the leader for the end of this one: some 50 ns each.
LINGER_PER_WORLD, MOST_LINGER = 100, 10_000
PATIENCE = 20_000
NAP = 2e-5  # seconds between two looks after that

# The desk that the threads share: int64, a cache line (8 words) to each thing.
D_TURN = 0  # which of the two outputs is written
D_DONE = 8  # helpers that have done their part
D_SEATS = 16  # one a thread, the leader's first
SEAT_WORDS = 8
AWAY, READY, CALLED, LEAVING = range(4)  # the first word of a helper's seat; leaving: sent away, and not away yet
TICKET = 1  # the second word of every seat: the next portion of the worlds that the thread takes first


@kernel
def _any_ended(context, first, last):
    """Whether any of these worlds starts anew; for a borrowed context."""
    restart = fields_of(context)[6]
    found = False
    for b in range(first, last):
        found |= restart[b]
    return found


@entry
def step_worlds(context, output, final, addresses, observers, loops, desk, portion, thread):
    """Takes worlds, `portion` at a time, through all phases of a step until none is left.

    Each thread begins with worlds of its own, the same in every step, because those are in its core's caches, and goes
    on with what others have left. `addresses` are those of `Stepper`'s phases, `observers` those of the observers. What
    the worlds that ended looked like is written into `final`.
    """
    worlds = context.restart.shape[0]
    world, now, ended = borrow(context), borrow(output), borrow(final)
    command, oppose, advance, score, start, begin = addresses
    threads = (desk.shape[0] - D_SEATS) // SEAT_WORDS
    portions = (worlds + portion - 1) // portion
    for ahead in range(threads):
        owner = (thread + ahead) % threads
        while True:
            number = owner * portions // threads + atomics.add(desk, D_SEATS + owner * SEAT_WORDS + TICKET, 1)
            if number >= (owner + 1) * portions // threads:
                break
            first = number * portion
            last = min(first + portion, worlds)
            run(command, (world, first, last))
            if oppose != 0:
                run(oppose, (world, first, last))
            run(advance, (world, loops, first, last))
            run(score, (world, first, last))
            if _any_ended(world, first, last):
                for observe in observers:
                    run(observe, (world, ended, True, first, last))
                run(start, (world, first, last))
                run(begin, (world, first, last))
            for observe in observers:
                run(observe, (world, now, False, first, last))


@entry
def lead_step(context, output, final, addresses, observers, loops, desk, portion, helpers):
    """The leader's part of a step. False: helpers were not done after some waiting."""
    step_worlds(context, output, final, addresses, observers, loops, desk, portion, 0)
    return wait_for_all(desk, helpers)


@entry
def help_steps(
    context, output_0, final_0, output_1, final_1, addresses, observers, loops, desk, portion, helper, linger
):
    """The part of a helper (1, 2, ...) of this step, and of those that follow soon."""
    seat = D_SEATS + helper * SEAT_WORDS
    while True:
        first = desk[D_TURN] == 0
        output, final = (output_0, final_0) if first else (output_1, final_1)
        step_worlds(context, output, final, addresses, observers, loops, desk, portion, helper)
        atomics.store(desk, seat, READY)
        atomics.add(desk, D_DONE, 1)
        looks = 0
        while atomics.load(desk, seat) == READY:
            looks += 1
            # Away by its own doing it must not look at its seat again: whoever calls it now starts it anew.
            if looks > linger and atomics.exchange(desk, seat, READY, AWAY):
                return
            atomics.relax()
        if atomics.load(desk, seat) == LEAVING:
            atomics.store(desk, seat, AWAY)
            return


@entry
def leave(desk, helper):
    """A helper's, when its part has failed."""
    atomics.store(desk, D_SEATS + helper * SEAT_WORDS, AWAY)
    atomics.add(desk, D_DONE, 1)


@entry
def call_helpers(desk, helpers):
    """Calls every helper; returns a bit for each that is away and has to be woken."""
    away = 0
    for helper in range(1, helpers + 1):
        seat = D_SEATS + helper * SEAT_WORDS
        if not atomics.exchange(desk, seat, READY, CALLED):
            # Called before it is away, it would go on, and be started a second time too.
            while atomics.load(desk, seat) == LEAVING:
                atomics.relax()
            atomics.store(desk, seat, CALLED)
            away |= 1 << helper
    return away


@entry
def send_away(desk, helpers):
    """Ends the waiting of all helpers."""
    for helper in range(1, helpers + 1):
        atomics.exchange(desk, D_SEATS + helper * SEAT_WORDS, READY, LEAVING)


@entry
def wait_for_all(desk, helpers):
    """Whether all helpers are done, after some waiting for it."""
    for _ in range(PATIENCE):
        if atomics.load(desk, D_DONE) == helpers:
            return True
        atomics.relax()
    return False


class Stepper:
    """The compiled step of one environment.

    Args:
        context: `driver.make_context`'s.
        worlds: how many worlds it holds.
        outputs, finals: two `driver.make_output` each, which steps write in turn: of all worlds, and the last ones of
            the worlds that ended.
        loops: game loops of a step.
        threads: how many threads step, the caller's included.
        command: gives the agents' orders.
        oppose: gives the scripted opponents', or None.
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
        portion = PORTION
        if threads > 1:
            portion = max(1, min(PORTION, worlds // (PORTIONS_PER_THREAD * threads)))
        self._helpers = threads - 1
        self._linger = min(LINGER_PER_WORLD * worlds, MOST_LINGER)
        self._desk = np.zeros(D_SEATS + threads * SEAT_WORDS, np.int64)
        self._errors: list[BaseException] = []
        self._context = context
        self._outputs = tuple(zip(outputs, finals, strict=True))
        self._arguments = (addresses, seen_by, loops, self._desk, portion)

    def step(self, turn: int, crew: Crew | None) -> None:
        """One step of all worlds into the outputs of `turn` (0 or 1), with the help of `crew` where threads > 1.

        Raises:
            BaseException: what a helper raised.
        """
        desk = self._desk
        desk[D_TURN], desk[D_DONE] = turn, 0
        desk[D_SEATS + TICKET :: SEAT_WORDS] = 0
        if crew is not None:
            crew.before_work = self._send_away
            away = call_helpers(desk, self._helpers)
            for helper in range(1, self._helpers + 1):
                if away >> helper & 1:
                    crew.start(partial(self._help, helper))
        if not lead_step(self._context, *self._outputs[turn], *self._arguments, self._helpers):
            while not wait_for_all(desk, self._helpers):
                time.sleep(NAP)
        if self._errors:
            raise self._errors.pop()

    def _send_away(self) -> None:
        send_away(self._desk, self._helpers)

    def _help(self, helper: int) -> None:
        try:
            help_steps(self._context, *self._outputs[0], *self._outputs[1], *self._arguments, helper, self._linger)
        except BaseException as error:
            self._errors.append(error)
            leave(self._desk, helper)
