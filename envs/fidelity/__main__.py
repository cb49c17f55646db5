"""`python -m envs.fidelity`: measures the simulator and prints it beside the real game.

python -m envs.fidelity --only smac minigames --episodes 50
python -m envs.fidelity --json fidelity.json --page fidelity.html
python -m envs.fidelity --only calibration --recorded game.json   # what calibration recorded on the game
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from envs.fidelity.figures import sources
from envs.fidelity.report import as_json, as_page, counts, heading, line
from envs.fidelity.verdicts import Row

GROUPS = {
    "units": "what clients are told of units",
    "abilities": "what clients are told of abilities",
    "radii": "radii in first observations",
    "times": "building, training, changes of mode",
    "layouts": "the start base",
    "opening": "minerals of the first 800 loops",
    "income": "steady minerals and vespene",
    "smac": "random play on SMAC's maps",
    "minigames": "fixed agents on the mini-games",
    "calibration": "experiments that calibration recorded on the game",
}
NAME_WIDTH = 46


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What to measure, how long, and where the result goes."""

    only: tuple[str, ...] = ()
    """Groups of rows: units, abilities, radii, times, layouts, opening, income, smac, minigames, calibration. None
    given: all, calibration only with recordings."""
    episodes: int | None = None
    """Episodes a SMAC map and an agent of a mini-game (economy games fewer); default 200 and 20."""
    layouts: int = 20
    """Ladder maps' start bases that economies are measured on, at most 60."""
    seed: int = 0
    recorded: Path | None = None
    """JSON file that `python -m envs.pysc2.calibration --transport game --out ...` wrote."""
    json: Path | None = None
    """Where the rows go as JSON."""
    page: Path | None = None
    """Where they go as an HTML page with drawings."""


def check(config: Fidelity) -> tuple[str, ...]:
    """The groups to measure.

    Raises:
        ValueError: an unknown group, a number out of range, or recordings that are missing or not readable.
    """
    unknown = [name for name in config.only if name not in GROUPS]
    if unknown:
        raise ValueError(f"--only names {', '.join(unknown)}; expected some of {', '.join(GROUPS)}")
    if config.episodes is not None and config.episodes < 2:
        raise ValueError(f"--episodes is {config.episodes}; expected at least 2, for an interval")
    if not 1 <= config.layouts <= 60:
        raise ValueError(f"--layouts is {config.layouts}; expected 1 to 60")
    if config.recorded is not None and not config.recorded.is_file():
        raise ValueError(f"--recorded {config.recorded}: there is no such file")
    if "calibration" in config.only and config.recorded is None:
        raise ValueError("--only calibration needs --recorded, the file that calibration wrote for the game")
    for path in (config.json, config.page):
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"the folder of {path} does not exist; make it first")
    chosen = config.only or tuple(name for name in GROUPS if name != "calibration")
    if config.recorded is not None and "calibration" not in chosen:
        chosen = (*chosen, "calibration")
    return tuple(name for name in GROUPS if name in chosen)


def measures(config: Fidelity) -> dict[str, Callable[[], Iterator[Row]]]:
    """What measures each group. Imported here, after the command has said what it does: engines take seconds."""
    from envs.fidelity import battles, catalogue, experiments, income, minigames, times

    smac, games = config.episodes or 200, config.episodes or 20
    return {
        "units": catalogue.unit_rows,
        "abilities": catalogue.ability_rows,
        "radii": catalogue.radius_rows,
        "times": times.time_rows,
        "layouts": income.layout_rows,
        "opening": lambda: income.opening_rows(config.layouts, config.seed),
        "income": lambda: income.income_rows(config.layouts, config.seed),
        "smac": lambda: battles.battle_rows(smac, config.seed),
        "minigames": lambda: minigames.minigame_rows(games, config.seed),
        "calibration": lambda: experiments.experiment_rows(config.recorded),
    }


def main(config: Fidelity) -> list[Row]:
    """Measures, prints the table as it grows, writes the files; returns the rows."""
    groups = check(config)
    described = ", ".join(f"{name} ({GROUPS[name]})" for name in groups)
    print(f"Measures on the simulator and compares with the game: {described}.", flush=True)
    print("All groups take some minutes, the first use of the simulator a minute more to compile.", flush=True)
    rows: list[Row] = []
    began = time.monotonic()
    functions = measures(config)
    for group in groups:
        print(f"\n{group}: {GROUPS[group]}\n{heading(NAME_WIDTH)}", flush=True)
        for row in functions[group]():
            rows.append(row)
            print(line(row, NAME_WIDTH), flush=True)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts(rows).items())
    print(f"\n{len(rows)} rows: {summary}")
    facts = {
        "groups": list(groups),
        "seed": config.seed,
        "episodes": config.episodes,
        "layouts": config.layouts,
        "seconds": round(time.monotonic() - began, 1),
    }
    if config.json is not None:
        config.json.write_text(json.dumps(as_json(rows, facts), indent=1), encoding="utf-8")
    if config.page is not None:
        config.page.write_text(as_page(rows, facts, sources()), encoding="utf-8")
    return rows


def command() -> None:
    """The command line; bad input is told in a line."""
    config = tyro.cli(Fidelity, description=__doc__)
    try:
        main(config)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    command()
