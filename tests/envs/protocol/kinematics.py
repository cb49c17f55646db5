"""What the rules of PySC2's scripted agents imply, without engine or protocol: Marines walk straight and pick up.

    python -m tests.envs.protocol.kinematics

Marines move 2.25 world units a second of Normal speed; agents decide every 8 of 1,920 game loops. Each agent's
decisions are its rules: in world coordinates where PySC2 shows it (nearly) exact ones, else in cells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STEP = 2.25 / 16  # a game loop's way
DECISIONS, LOOPS = 240, 8
HIT_RADIUS, PICKUP_RADIUS = 1.25, 1.0
APART = 0.75  # two Marines side by side

Point = np.ndarray
# (decision, Marines [2, 2], shards) -> the goals that change, by Marine
Policy = Callable[[int, np.ndarray, list[Point]], dict[int, Point]]


def walk(place: Point, goal: Point | None) -> Point:
    """A loop's way towards a goal."""
    if goal is None:
        return place
    way = goal - place
    length = float(np.hypot(*way))
    return goal.copy() if length <= STEP else place + way / length * STEP


def move_to_beacon(random: np.random.Generator) -> int:
    """Score of an episode of going straight for the beacon."""
    low, high = np.array([23.5, 21.5]), np.array([42.5, 34.5])

    def place_beacon(marine: Point) -> Point:
        while True:
            beacon = random.uniform(low, high)
            if np.hypot(*(beacon - (33.0, 28.0))) >= 4 and np.hypot(*(beacon - marine)) >= 5:
                return beacon

    marine, goal, score = random.uniform(low, high), None, 0
    beacon = place_beacon(marine)
    for decision in range(DECISIONS):
        goal = beacon.copy() if decision else None  # the first decision selects
        for _ in range(LOOPS):
            marine = walk(marine, goal)
            if np.hypot(*(beacon - marine)) <= HIT_RADIUS:
                score += 1
                beacon = place_beacon(marine)
    return score


def collect_shards(random: np.random.Generator, policy: Policy, *, together: bool) -> int:
    """Score of an episode under a policy; Marines that go `together` push each other apart."""
    low, high = np.array([23.0, 21.0]), np.array([43.0, 35.0])
    marines = random.uniform(low, high, (2, 2))

    def place_shards() -> list[Point]:
        shards: list[Point] = []
        while len(shards) < 20:
            shard = random.uniform(low, high)
            if np.hypot(*(marines - shard).T).min() >= 2:
                shards.append(shard)
        return shards

    shards, score = place_shards(), 0
    goals: list[Point | None] = [None, None]
    for decision in range(DECISIONS):
        for marine, goal in policy(decision, marines, shards).items():
            goals[marine] = goal
        for _ in range(LOOPS):
            marines = np.stack([walk(marine, goal) for marine, goal in zip(marines, goals, strict=True)])
            way = marines[1] - marines[0]
            length = max(float(np.hypot(*way)), 1e-6)
            if together and length < APART:
                push = way / length * (APART - length) / 2
                marines = marines + np.stack([-push, push])
            left = [shard for shard in shards if np.hypot(*(marines - shard).T).min() > PICKUP_RADIUS]
            score += len(shards) - len(left)
            shards = left or place_shards()
    return score


def nearest(place: Point, shards: list[Point]) -> Point:
    return shards[int(np.argmin(np.hypot(*(np.stack(shards) - place).T)))].copy()


def group() -> Policy:
    """CollectMineralShards: both Marines to the shard nearest to their middle."""

    def decide(decision: int, marines: np.ndarray, shards: list[Point]) -> dict[int, Point]:
        goal = nearest(marines.mean(0), shards)
        return {0: goal, 1: goal} if decision else {}

    return decide


def alternating(*, select: bool, cells: bool) -> Policy:
    """The Marines in turns, each to its nearest shard but the other's.

    select: a decision to select the Marine comes before each order. cells: places are seen as cells of the map.
    """
    turn, previous = 0, np.full(2, -1.0)

    def seen(place: Point) -> Point:
        return np.floor(place) + 0.5 if cells else place

    def decide(decision: int, marines: np.ndarray, shards: list[Point]) -> dict[int, Point]:
        nonlocal turn, previous
        if select and decision % 2 == 0:
            return {}
        # One shard is left out, however many lie in the other Marine's cell.
        choice = [seen(shard) for shard in shards]
        taken = next((n for n, place in enumerate(choice) if np.array_equal(place, previous)), None)
        if taken is not None:
            del choice[taken]
        if not choice:
            return {}
        marine, turn, previous = turn, 1 - turn, nearest(seen(marines[turn]), choice)
        return {marine: previous}

    return decide


# By the agent's name: the score of one episode.
EPISODES: dict[str, Callable[[np.random.Generator], int]] = {
    "MoveToBeacon": move_to_beacon,
    "CollectMineralShards": lambda random: collect_shards(random, group(), together=True),
    "CollectMineralShardsFeatureUnits": lambda random: collect_shards(
        random, alternating(select=True, cells=False), together=False
    ),
    "CollectMineralShardsRaw": lambda random: collect_shards(
        random, alternating(select=False, cells=True), together=False
    ),
}


def expected(name: str, episodes: int = 20, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of an agent's score."""
    random = np.random.default_rng(seed)
    scores = [EPISODES[name](random) for _ in range(episodes)]
    return float(np.mean(scores)), float(np.std(scores, ddof=1))


if __name__ == "__main__":
    for agent in EPISODES:
        mean, deviation = expected(agent)
        print(f"{agent:33} {mean:6.1f} ± {deviation:.1f}", flush=True)
