"""Threads that share a step."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from numba import njit

from envs.crew import Crew
from envs.stepping import take_ticket


def test_a_crew_works_side_by_side_and_tells_what_went_wrong() -> None:
    crew = Crew(2)
    together = threading.Barrier(3, timeout=20.0)
    crew.run(together.wait)  # returns only if three threads are in it at the same time

    def fail() -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("not here")

    with pytest.raises(ValueError, match="not here"):
        crew.run(fail)
    crew.run(together.wait)
    before = threading.active_count()
    crew.close()
    assert threading.active_count() == before - 2


def test_the_threads_of_a_crew_that_nobody_holds_end() -> None:
    before = threading.active_count()
    crew = Crew(2)
    held = weakref.ref(crew)
    crew.run(gc.isenabled)
    del crew
    gc.collect()
    assert held() is None and threading.active_count() == before


def test_tickets_are_drawn_once() -> None:
    @njit(nogil=True)
    def draw(counter, drawn):  # type: ignore[no-untyped-def]
        while True:
            ticket = take_ticket(counter)
            if ticket >= drawn.shape[0]:
                break
            drawn[ticket] += 1

    counter, drawn = np.zeros(1, np.int64), np.zeros(300_000, np.int64)
    crew = Crew(3)
    crew.run(lambda: draw(counter, drawn))
    crew.close()
    assert (drawn == 1).all() and counter[0] == drawn.size + 4
