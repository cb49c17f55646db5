"""Threads that share a step."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from numba import njit

from envs.runtime import atomics, stepping
from envs.runtime.threads import Crew
from envs.vector_env import SC2VectorEnv
from tests.patience import PATIENCE


def test_a_crew_works_side_by_side_and_tells_what_went_wrong() -> None:
    crew = Crew(2)
    together = threading.Barrier(3, timeout=PATIENCE)
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
            ticket = atomics.add(counter, 0, 1)
            if ticket >= drawn.shape[0]:
                break
            drawn[ticket] += 1

    counter, drawn = np.zeros(1, np.int64), np.zeros(300_000, np.int64)
    crew = Crew(3)
    crew.run(lambda: draw(counter, drawn))
    crew.close()
    assert (drawn == 1).all() and counter[0] == drawn.size + 4


def test_helpers_step_while_they_are_awake_and_after_they_have_slept() -> None:
    alone, helped = SC2VectorEnv("3m", 12), SC2VectorEnv("3m", 12, num_threads=3)
    observation, _ = alone.reset(seed=0)
    helped.reset(seed=0)
    for step in range(40):
        if step % 10 == 9:
            time.sleep(0.02)  # many times as long as a helper stays awake
        action = alone.scripted_action("attack-move")
        observation, reward, *_ = alone.step(action)
        other, other_reward, *_ = helped.step(action)
        assert (observation["entities"] == other["entities"]).all() and (reward == other_reward).all()
    helped.close()


def test_a_step_tells_what_a_helper_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SC2VectorEnv("3m", 4, num_threads=2)
    env.reset(seed=0)
    action = env.scripted_action("attack-move")
    env.step(action)

    def fail(*arguments: object) -> None:
        raise ValueError("cannot help")

    with monkeypatch.context() as patched:
        patched.setattr(stepping, "help_steps", fail)
        with pytest.raises(ValueError, match="cannot help"):
            while True:  # until the helper sleeps, and has to be called anew
                time.sleep(0.02)
                env.step(action)
    env.step(action)
    env.close()


def test_a_helper_that_is_leaving_is_called_only_when_it_is_away() -> None:
    # Called before that, it would go on, and be started a second time too: steps would count one helper too many.
    desk = np.zeros(stepping.D_SEATS + 2 * stepping.SEAT_WORDS, np.int64)
    seat = stepping.D_SEATS + stepping.SEAT_WORDS
    desk[seat] = stepping.READY
    stepping.send_away(desk, 1)
    assert desk[seat] == stepping.LEAVING
    away: list[int] = []
    caller = threading.Thread(target=lambda: away.append(stepping.call_helpers(desk, 1)))
    caller.start()
    caller.join(0.2)
    assert caller.is_alive() and not away and desk[seat] == stepping.LEAVING
    desk[seat] = stepping.AWAY
    caller.join(PATIENCE)
    assert away == [2] and desk[seat] == stepping.CALLED


def test_many_short_waits_lose_no_call() -> None:
    env = SC2VectorEnv("3m", 2, num_threads=2)
    env.reset(seed=0)
    action = env.scripted_action("attack-move")
    env.step(action)
    assert env._stepper is not None
    for n in range(3000):
        env._stepper._linger = n % 300  # the helper leaves about when it is called
        env.step(action)
        assert env._stepper._desk[stepping.D_DONE] == 1
    env.close()
