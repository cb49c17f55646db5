"""When kernels on disk are out of date: what their sources mean, not what they say beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import envs
from envs.engine.state import compilation

RUN = """
from small.kernels import double
from envs.engine.state.compilation import source_stamp
value = double(4.0)
stats = double.stats
print(value, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
KERNELS = '''"""Kernels."""

from __future__ import annotations

from envs.small.constants import FACTOR
from envs.engine.state.compilation import kernel


@kernel
def double(x):
    """Twice."""
    return FACTOR * x
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with what compiles kernels, and a small module of its own."""
    source = Path(envs.__file__).parent / "engine" / "state" / "compilation.py"
    for folder in ("envs", "envs/engine", "envs/engine/state", "envs/small"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    shutil.copy(source, tmp_path / "envs/engine/state/compilation.py")
    (tmp_path / "envs/small/kernels.py").write_text(KERNELS)
    (tmp_path / "envs/small/constants.py").write_text('"""Constants."""\n\nFACTOR = 2.0\n')
    return tmp_path


def run(package: Path) -> tuple[float, bool]:
    """What the kernel returns in a new process, and whether its machine code came from disk."""
    code = RUN.replace("from small", "from envs.small")
    done = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=True)
    value, hits, misses = done.stdout.split()
    assert int(hits) + int(misses) == 1
    return float(value), hits == "1"


def edit(package: Path, name: str, old: str, new: str) -> None:
    path = package / "envs/small" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_comments_and_docstrings_compile_nothing_anew(package: Path) -> None:
    assert run(package) == (8.0, False)
    assert run(package) == (8.0, True)
    edit(package, "kernels.py", "@kernel", "# A comment above the kernel,\n# of two lines.\n\n\n@kernel")
    edit(package, "kernels.py", '"""Twice."""', '"""Two times\n    as much."""\n    # and a comment')
    edit(package, "kernels.py", '"""Kernels."""', "")
    edit(package, "constants.py", '"""Constants."""', '"""Constants\n\nof the kernels."""\n# nothing else')
    assert run(package) == (8.0, True)


def test_a_changed_constant_of_another_module_compiles_anew(package: Path) -> None:
    assert run(package) == (8.0, False)
    edit(package, "constants.py", "2.0", "3.0")
    assert run(package) == (12.0, False)
    assert run(package) == (12.0, True)


def test_an_import_that_leads_nowhere_is_refused(package: Path) -> None:
    edit(package, "kernels.py", "from envs.engine", "if False:\n    import envs.small.missing\nfrom envs.engine")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(package)
    assert "there is no module envs.small.missing" in caught.value.stderr


def test_a_relative_import_is_refused(package: Path) -> None:
    edit(package, "kernels.py", "from envs.small.constants", "from .constants")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(package)
    assert "relative import" in caught.value.stderr


def test_every_module_with_kernels_is_covered_by_the_stamp_of_those_that_call_them() -> None:
    root = Path(envs.__file__).parent
    stamped = compilation.modules_of(root / "runtime" / "driver.py")
    for name in ("engine/decisions.py", "engine/simd/vectors.py", "rules/scoring.py", "runtime/struct_fields.py"):
        assert root / name in stamped
    # What Python code alone uses compiles nothing anew.
    for name in ("vector_env.py", "scenarios/scenario.py", "scenarios/compiler.py", "scenarios/units.py"):
        assert root / name not in stamped
