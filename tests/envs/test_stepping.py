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
from envs.runtime.threads import ThreadPool
from envs.vector_env import SC2VectorEnv
from tests.patience import PATIENCE


def test_a_pool_works_side_by_side_and_tells_what_went_wrong() -> None:
    pool = ThreadPool(2)
    together = threading.Barrier(3, timeout=PATIENCE)
    pool.run(together.wait)  # returns only if three threads are in it at the same time

    def fail() -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("not here")

    with pytest.raises(ValueError, match="not here"):
        pool.run(fail)
    pool.run(together.wait)
    before = threading.active_count()
    pool.close()
    assert threading.active_count() == before - 2


def test_the_threads_of_a_pool_that_nobody_holds_end() -> None:
    before = threading.active_count()
    pool = ThreadPool(2)
    held = weakref.ref(pool)
    pool.run(gc.isenabled)
    del pool
    gc.collect()
    assert held() is None and threading.active_count() == before


def test_numbers_are_drawn_once() -> None:
    @njit(nogil=True)
    def draw(counter, drawn):  # type: ignore[no-untyped-def]
        while True:
            number = atomics.add(counter, 0, 1)
            if number >= drawn.shape[0]:
                break
            drawn[number] += 1

    counter, drawn = np.zeros(1, np.int64), np.zeros(300_000, np.int64)
    pool = ThreadPool(3)
    pool.run(lambda: draw(counter, drawn))
    pool.close()
    assert (drawn == 1).all() and counter[0] == drawn.size + 4


def test_workers_step_while_they_are_awake_and_after_they_have_slept() -> None:
    alone, helped = SC2VectorEnv("3m", 12), SC2VectorEnv("3m", 12, num_threads=3)
    observation, _ = alone.reset(seed=0)
    helped.reset(seed=0)
    for step in range(40):
        if step % 10 == 9:
            time.sleep(0.02)  # many times as long as a worker stays awake
        action = alone.scripted_action("attack-move")
        observation, reward, *_ = alone.step(action)
        other, other_reward, *_ = helped.step(action)
        assert (observation["entities"] == other["entities"]).all() and (reward == other_reward).all()
    helped.close()


def test_a_step_tells_what_a_worker_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SC2VectorEnv("3m", 4, num_threads=2)
    env.reset(seed=0)
    action = env.scripted_action("attack-move")
    env.step(action)

    def fail(*arguments: object) -> None:
        raise ValueError("cannot work")

    with monkeypatch.context() as patched:
        patched.setattr(stepping, "run_worker", fail)
        with pytest.raises(ValueError, match="cannot work"):
            while True:  # until the worker sleeps, and has to be started anew
                time.sleep(0.02)
                env.step(action)
    env.step(action)
    env.close()


def test_a_worker_that_is_stopping_is_started_only_when_it_sleeps() -> None:
    # Started before that, it would go on, and be started a second time too: steps would count one worker too many.
    control = np.zeros(stepping.C_THREADS + 2 * stepping.RECORD_WORDS, np.int64)
    record = stepping.C_THREADS + stepping.RECORD_WORDS
    control[record] = stepping.SPINNING
    stepping.stop_workers(control, 1)
    assert control[record] == stepping.STOPPING
    asleep: list[int] = []
    caller = threading.Thread(target=lambda: asleep.append(stepping.start_workers(control, 1)))
    caller.start()
    caller.join(0.2)
    assert caller.is_alive() and not asleep and control[record] == stepping.STOPPING
    control[record] = stepping.ASLEEP
    caller.join(PATIENCE)
    assert asleep == [2] and control[record] == stepping.WORKING


def test_many_short_waits_lose_no_work() -> None:
    env = SC2VectorEnv("3m", 2, num_threads=2)
    env.reset(seed=0)
    action = env.scripted_action("attack-move")
    env.step(action)
    assert env._stepper is not None
    for n in range(3000):
        env._stepper._spins = n % 300  # the worker falls asleep about when it gets work
        env.step(action)
        assert env._stepper._control[stepping.C_FINISHED] == 1
    env.close()
