"""What is told, and what runs beside, while kernels are compiled for the first time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from envs.runtime import first_use
from envs.runtime.first_use import compile_together

ROOT = Path(__file__).parents[2]


def new_kernel(module: str = "envs.runtime.driver") -> Callable[[int], int]:
    """A kernel of `module` that is not compiled yet."""

    def add_one(number):
        return number + 1

    add_one.__module__ = module
    return numba.njit(add_one)


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(first_use, "LINE_SECONDS", 0.0)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "cores", lambda: 2)


def test_only_the_first_process_compiles_and_says_so(tmp_path: Path) -> None:
    """What it says goes to stderr; the second process finds the kernel on disk."""
    code = """
import numpy
from envs.runtime import driver, first_use
from envs.scenarios.compiled import Output
first_use.QUIET_SECONDS = 0.0
driver.make_output(Output(*(numpy.zeros((1, 1, 1)) for _ in Output._fields)))
"""
    for told in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.startswith("compiling the simulator's kernels (once): ") == told, done.stderr
        assert not done.stdout


def test_progress_counts_kernels(told_at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    kernels = [new_kernel() for _ in range(3)]
    compile_together([lambda k=k: k(1) for k in kernels[:2]], lambda: kernels[2](1), "")
    lines = capsys.readouterr().err.splitlines()
    told = dict.fromkeys(line.rpartition(",")[0] for line in lines[:-1])
    assert list(told) == [f"compiling the simulator's kernels (once): {done} of 3" for done in range(3)]
    assert lines[-1].startswith("compiled in ")


def test_kernels_of_others_are_not_told(told_at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert new_kernel("elsewhere.kernels")(1) == 2
    assert not capsys.readouterr().err
    assert new_kernel()(1) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("compiling the simulator's kernels (once): ") and said[-1].startswith("compiled in ")


def test_the_longest_is_compiled_in_a_second_process_only_if_another_is_missing(
    tmp_path: Path, two_cores: None
) -> None:
    kernel = new_kernel()
    order: list[str] = []
    for missing in (True, False):
        mark = tmp_path / f"{missing}"
        # The second process is waited for before its result is asked for.
        code = f"import time; time.sleep(0.5); open({str(mark)!r}, 'w')"

        def longest(mark: Path = mark) -> None:
            order.append(f"marked {mark.exists()}")

        compile_together([lambda: kernel(1)], longest, code)
        assert mark.exists() == missing
    assert order == ["marked True", "marked False"]


def test_one_core_compiles_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "cores", lambda: 1)
    kernel, mark = new_kernel(), tmp_path / "mark"
    compile_together([lambda: kernel(1)], lambda: None, f"open({str(mark)!r}, 'w')")
    assert not mark.exists()


def test_a_second_process_that_fails_costs_time_only(two_cores: None) -> None:
    kernel, longest = new_kernel(), new_kernel()
    compile_together([lambda: kernel(1)], lambda: longest(1), "raise SystemExit(1)")
    assert longest.signatures


def test_what_a_kernel_raises_is_raised_and_ends_the_second_process(two_cores: None) -> None:
    kernel = new_kernel()

    def fail() -> None:
        kernel(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_together([fail], lambda: None, "import time; time.sleep(3600)")
    assert first_use._announcer.total == 0 and first_use._announcer.at_first is None
