"""Runs PySC2's own tests that need the game, as they ship, on the server, and prints how many pass.

python -m benchmarks.pysc2_suite [--json FILE] [--only obs_test]

The tests launch the game themselves: the server is laid out as an installation (`perceiver-sc2-server install`) in a
temporary folder, and `SC2PATH` points there. Nothing of the tests or of PySC2 is changed. One file runs after another,
each in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import tyro

from envs.protocol.install import compile_kernels, install

# What does not pass, and why: the rest must.
KNOWN = {
    "obs_test.TestObs.test_effects": (
        "the test asks `pysc2_evolved.lib.features` for `Effects`, which that module does not have; with the name put "
        "there it passes"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """PySC2's tests marked `sc2` on the server."""

    only: str = ""
    """Runs only the files whose name contains this."""
    json: str = ""
    """A file for the results."""
    timeout: int = 1200
    """Seconds for one file."""


def run(config: Config) -> dict[str, str]:
    """The outcome ("passed", or the message of the failure) of every test by name."""
    import pysc2_evolved

    folder = Path(pysc2_evolved.__file__).parent / "tests"
    results: dict[str, str] = {}
    compile_kernels()
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **os.environ,
            "SC2PATH": str(install(Path(scratch) / "StarCraftII")),
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "SDL_VIDEODRIVER": "dummy",
        }
        for file in sorted(folder.glob("*_test.py")):
            if config.only not in file.stem or "pytest.mark.sc2" not in file.read_text():
                continue
            report = Path(scratch) / f"{file.stem}.xml"
            started = time.monotonic()
            words = [sys.executable, "-m", "pytest", "-q", "-m", "sc2", "-p", "no:cacheprovider", "--timeout"]
            words += [str(config.timeout), "--junitxml", str(report), file.name]
            subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            outcomes = read(report)
            results.update({f"{file.stem}.{name}": outcome for name, outcome in outcomes.items()})
            passed = sum(outcome == "passed" for outcome in outcomes.values())
            print(f"{file.stem}: {passed} of {len(outcomes)} in {time.monotonic() - started:.0f} s", flush=True)
    return results


def read(report: Path) -> dict[str, str]:
    """Outcomes of a JUnit report: "Class.test" -> "passed" or the first line of what went wrong."""
    if not report.is_file():
        return {"(file)": "pytest wrote no report"}
    outcomes = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        name = f"{case.attrib['classname'].split('.')[-1]}.{case.attrib['name']}"
        text = "passed" if problem is None else f"{problem.tag}: {problem.attrib.get('message', '')}"
        outcomes[name] = re.sub(r"\s+", " ", text)[:200]
    return outcomes


def main() -> int:
    """Prints the count and what did not pass; 0 if that is what is known."""
    config = tyro.cli(Config, description=__doc__)
    results = run(config)
    failed = {name: outcome for name, outcome in results.items() if outcome != "passed"}
    print(f"{len(results) - len(failed)} of {len(results)} passed")
    for name, outcome in failed.items():
        print(f"  {name}: {KNOWN.get(name, outcome)}")
    if config.json:
        Path(config.json).write_text(json.dumps(results, indent=1) + "\n")
    return 1 if set(failed) - set(KNOWN) else 0


if __name__ == "__main__":
    sys.exit(main())
