"""Steps per second through PySC2, on the simulator and on a static world behind the same transports.

    python -m benchmarks.protocol [--seconds 2] [--clock cpu]

Standing Marines on an open map, 8 game loops a step, no action. The static world answers every observation with the
same prepared bytes and steps for free: what is left is PySC2's own cost and that of reading and framing requests. The
two take turns; the share of the engine and the handler is 1 - simulator / static. A websocket's server is a thread of
the same process.
"""

from __future__ import annotations

import argparse
import statistics
import time

from pysc2_evolved.env import sc2_env
from pysc2_evolved.lib import actions
from s2clientprotocol import debug_pb2, sc2api_pb2

from envs.protocol import memory, server
from envs.protocol.handler import Session
from envs.protocol.wire import header
from envs.pysc2.client import TRANSPORTS, simulator

UNITS = (15, 60, 200)


class StaticSession(Session):
    """Observes once; later observations are those bytes with the loop counted on, and steps move nothing."""

    def __init__(self, **kwargs: bool) -> None:
        super().__init__(**kwargs)
        self.frozen: bytes | None = None
        self.loop = 0

    def _step(self, request, response):
        if self.frozen is None:
            return super()._step(request, response)
        self.loop += request.count
        response.step.simulation_loop = self.loop
        return None

    def _observation(self, request, response):
        if self.frozen is None:
            return super()._observation(request, response)
        # A later occurrence of a field wins, so the loop is set behind the frozen bytes.
        loop = sc2api_pb2.ResponseObservation()
        loop.observation.game_loop = self.loop
        later = loop.SerializeToString()
        return header(10, len(self.frozen) + len(later)), self.frozen, later


def make(transport: str, interface, units: int) -> sc2_env.SC2Env:
    with simulator(transport):
        env = sc2_env.SC2Env(
            map_name="Flat64",
            players=[
                sc2_env.Agent(sc2_env.Race.terran),
                sc2_env.Bot(sc2_env.Race.terran, sc2_env.Difficulty.very_easy),
            ],
            agent_interface_format=interface,
            step_mul=8,
            game_steps_per_episode=0,
            random_seed=1,
        )
    env.reset()
    controller = env._controllers[0]
    listed = controller.observe().observation.raw_data.units
    commands = [
        debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=[u.tag for u in listed if u.unit_type != 18]))
    ]
    for number in range(units - 1):
        make_one = debug_pb2.DebugCreateUnit(unit_type=48, owner=1, quantity=1)
        make_one.pos.x, make_one.pos.y = 20 + number % 20, 20 + number // 20
        commands.append(debug_pb2.DebugCommand(create_unit=make_one))
    controller.debug(commands)
    controller.step(8)
    return env


def worlds(transport: str, interface, units: int) -> dict[str, sc2_env.SC2Env]:
    """The same battle twice: on the simulator, and frozen."""
    result = {}
    for kind, cls in (("simulator", Session), ("static", StaticSession)):
        created: list[Session] = []

        def factory(cls=cls, created=created, **kwargs):
            created.append(cls(**kwargs))
            return created[-1]

        # Both transports take their sessions from these modules.
        memory.Session = server.Session = factory  # type: ignore[misc, assignment]
        try:
            env = make(transport, interface, units)
        finally:
            memory.Session = server.Session = Session  # type: ignore[misc]
        session = created[0]
        if isinstance(session, StaticSession):
            assert session.game is not None and session.player_session is not None and session.game.world is not None
            session.loop = session.game.world.loop
            session.frozen = session.game.observe(session.player_session, 0, False)
        env._episode_steps = env._controllers[0].observe().observation.game_loop
        result[kind] = env
    return result


def measure(env, action, seconds: float, clock) -> float:
    """Steps a second of `clock`."""
    count, start, limit = 0, clock(), time.perf_counter() + seconds
    while time.perf_counter() < limit:
        for _ in range(10):
            env.step([action])
        count += 10
    return count / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each world in each row")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the two worlds")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, for a busy machine"
    )
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    raw = sc2_env.AgentInterfaceFormat(action_space=sc2_env.ActionSpace.RAW, use_raw_units=True)
    interfaces = {
        "raw": (raw, actions.RAW_FUNCTIONS.no_op()),
        "passthrough": (sc2api_pb2.InterfaceOptions(raw=True, score=True), sc2api_pb2.Action()),
    }
    print("units  transport  interface        simulator          static   engine + handler (rounds)")
    for units in UNITS:
        for transport in TRANSPORTS:
            for name, (interface, action) in interfaces.items():
                envs = worlds(transport, interface, units)
                for env in envs.values():
                    measure(env, action, 0.05, clock)  # loads what is compiled
                rates: dict[str, list[float]] = {kind: [] for kind in envs}
                for _ in range(options.rounds):
                    for kind, env in envs.items():
                        rates[kind].append(measure(env, action, options.seconds / options.rounds, clock))
                for env in envs.values():
                    env.close()
                middle = {kind: statistics.median(values) for kind, values in rates.items()}
                spread = {kind: (max(values) - min(values)) / 2 / middle[kind] for kind, values in rates.items()}
                shares = [1 - a / b for a, b in zip(rates["simulator"], rates["static"], strict=True)]
                print(
                    f"{units:5}  {transport:9}  {name:11}"
                    f"  {middle['simulator']:8,.0f} ±{spread['simulator']:4.0%}"
                    f"  {middle['static']:8,.0f} ±{spread['static']:4.0%}"
                    f"  {1 - middle['simulator'] / middle['static']:6.0%} ({min(shares):.0%} to {max(shares):.0%})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
