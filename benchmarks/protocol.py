"""Steps per second through PySC2, on the simulator and on a static world behind the same transports.

    python -m benchmarks.protocol [--seconds 3]

The static world answers every observation with the same prepared bytes and steps for free: what is left is PySC2's own
cost. The share of the engine and the handler is 1 - simulator / static.
"""

from __future__ import annotations

import argparse
import statistics
import time

from pysc2_evolved.env import sc2_env
from s2clientprotocol import debug_pb2, sc2api_pb2

from envs.protocol import handler
from envs.protocol.handler import Session
from envs.pysc2_client import simulator

UNITS = (15, 60, 200)
PASSTHROUGH = sc2api_pb2.InterfaceOptions(raw=True, score=True)


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
        return handler.wrap(10, self.frozen + loop.SerializeToString())


def session_of(env) -> Session:
    """The session behind an in-memory environment."""
    return env._controllers[0]._client._sock.session


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


def measure(env, action, seconds: float) -> list[float]:
    """Steps a second in five rounds."""
    rates = []
    for _ in range(5):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 5:
            for _ in range(10):
                env.step([action])
            count += 10
        rates.append(count / (time.perf_counter() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    raw = sc2_env.AgentInterfaceFormat(action_space=sc2_env.ActionSpace.RAW, use_raw_units=True)
    from pysc2_evolved.lib import actions

    print("units  transport  interface    simulator       static   engine + handler")
    for units in UNITS:
        for transport, name, interface, action in (
            ("websocket", "raw", raw, actions.RAW_FUNCTIONS.no_op()),
            ("memory", "raw", raw, actions.RAW_FUNCTIONS.no_op()),
            ("memory", "passthrough", PASSTHROUGH, sc2api_pb2.Action()),
        ):
            rates = {}
            for kind in ("simulator", "static"):
                # The memory and websocket transports both make their sessions from these two modules.
                from envs.protocol import memory, server

                cls = Session if kind == "simulator" else StaticSession
                created: list[Session] = []

                def factory(cls=cls, created=created, **kwargs):
                    created.append(cls(**kwargs))
                    return created[-1]

                memory.Session = server.Session = factory  # type: ignore[misc, assignment]
                try:
                    env = make(transport, interface, units)
                finally:
                    memory.Session = server.Session = Session  # type: ignore[misc]
                session = created[0]
                if isinstance(session, StaticSession):
                    assert session.game is not None and session.seat is not None
                    session.loop = session.game.world.loop
                    session.frozen = session.game.observe(session.seat, 0, False)
                env._episode_steps = env._controllers[0].observe().observation.game_loop
                rates[kind] = measure(env, action, seconds)
                env.close()
            middle = {kind: statistics.median(values) for kind, values in rates.items()}
            spread = {kind: (max(values) - min(values)) / 2 / middle[kind] for kind, values in rates.items()}
            share = 1 - middle["simulator"] / middle["static"]
            print(
                f"{units:5}  {transport:9}  {name:11}"
                f"  {middle['simulator']:6.0f} ±{spread['simulator']:4.0%}"
                f"  {middle['static']:6.0f} ±{spread['static']:4.0%}"
                f"  {share:6.0%}"
            )


if __name__ == "__main__":
    main()
