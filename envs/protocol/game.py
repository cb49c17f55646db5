"""A game that clients sit down at: joining and stepping are barriers, realtime runs by itself, all is recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from s2clientprotocol import debug_pb2, sc2api_pb2

from envs.economy.tables import B_CHEATS, B_MINERALS, B_VESPENE, CHEAT_FAST, CHEAT_FOOD, CHEAT_FREE, CHEAT_TECH
from envs.engine.state import layout as st
from envs.protocol.maps import GameMap, find_map
from envs.protocol.observation import Observer
from envs.protocol.player import PlayerSession
from envs.protocol.recorded import recorded_units
from envs.protocol.replay import Replay
from envs.protocol.tables import LOOPS_PER_WALL_SECOND
from envs.protocol.world import RACES, SPARE_SLOTS, Outcome, Player, World

PATIENCE = 120.0  # seconds that a client waits for the others
MAX_CREATED = SPARE_SLOTS
GIFT = 5000  # minerals or vespene of a debug command
RACE_NAMES = {1: "terran", 2: "zerg", 3: "protoss"}
RACE_IDS = {name: number for number, name in RACE_NAMES.items()}
DEFEAT, VICTORY, TIE, UNDECIDED = 2, 1, 3, 4


_NO_ACTION = sc2api_pb2.Action()


class GameError(RuntimeError):
    """A request that the game cannot grant now; the message goes to the client as the response's error."""


class Game:
    """One game: a map, the players set up by `create_game`, and the sessions of the clients that joined."""

    def __init__(
        self,
        game_map: GameMap,
        setups: Sequence[sc2api_pb2.PlayerSetup],
        *,
        seed: int,
        disable_fog: bool = False,
        realtime: bool = False,
        map_data: bytes = b"",
    ) -> None:
        self.map = game_map
        self.map_data = map_data
        self.seed = seed
        self.disable_fog = disable_fog
        self.realtime = realtime
        self.setups = {number: setup for number, setup in enumerate(ordered(setups, game_map), start=1)}
        self.participants = [number for number, setup in self.setups.items() if setup.type == sc2api_pb2.Participant]
        self.sessions: list[PlayerSession] = []
        self.races: dict[int, str] = {}
        self.requested: dict[int, int] = {}
        self.world: World | None = None
        self.observer: Observer | None = None
        self.replay: Replay | None = None
        self.playing: Replay | None = None
        self.closed = False
        self.changed = threading.Condition(threading.RLock())
        self._next_entry = 0
        self._clock: threading.Thread | None = None

    # --- joining ---

    def join(
        self, options: sc2api_pb2.InterfaceOptions, race: int, name: str, *, observe: bool, host: bool
    ) -> PlayerSession:
        """Joins a client and waits until every participant has one.

        Raises:
            GameError: no player is free, or the others do not come.
        """
        with self.changed:
            taken = {session.player for session in self.sessions if not session.left}
            if observe:
                session = PlayerSession(0, options, name, revealed=True)
            else:
                # The first player is the host's, whoever of the two comes first.
                mine = self.participants if host else self.participants[1:]
                free = [player for player in mine if player not in taken]
                if not free or self.world is not None:
                    raise GameError("the game is full: every participant of create_game has joined")
                session = PlayerSession(free[0], options, name)
                self.requested[free[0]] = race
            self.sessions.append(session)
            taken.add(session.player)
            if self.world is None and set(self.participants) <= taken:
                self._begin()
            deadline = time.monotonic() + PATIENCE
            while self.world is None:
                if self.closed:
                    raise GameError("the game was closed while waiting for the other player")
                if not self.changed.wait(max(0.0, deadline - time.monotonic())):
                    self.leave(session)
                    raise GameError(f"the other player did not join within {PATIENCE:.0f} s")
            return session

    def _begin(self) -> None:
        players = {}
        for number, setup in self.setups.items():
            computer = setup.type == sc2api_pb2.Computer
            wanted = setup.race if computer else self.requested.get(number, 0)
            self.requested[number] = wanted
            race = RACE_NAMES.get(wanted) or RACES[(self.seed * 7 + number * 13) % 3]
            difficulty = (setup.difficulty or sc2api_pb2.VeryEasy) if computer else 0
            players[number] = Player(race=race, difficulty=difficulty)
        self.world = World(self.map, players, seed=self.seed, disable_fog=self.disable_fog)
        self._ready()

    def _ready(self) -> None:
        assert self.world is not None
        self.observer = Observer(self.world)
        for session in self.sessions:
            session.begin(self.world)
        self._record()
        if self.realtime and self._clock is None:
            self._clock = threading.Thread(target=self._run_clock, name="sc2-realtime", daemon=True)
            self._clock.start()
        self.changed.notify_all()

    def _record(self) -> None:
        assert self.world is not None
        if self.playing is not None:
            return
        self.replay = Replay(
            map_path=self.map.path,
            map_data=self.map_data,
            seed=self.seed,
            disable_fog=self.disable_fog,
            players={n: {"race": p.race, "difficulty": p.difficulty} for n, p in self.world.players.items()},
            names={session.player: session.name for session in self.sessions},
            episode=self.world.first_episode,
        )

    # --- playing ---

    def act(self, session: PlayerSession, actions: Sequence[sc2api_pb2.Action]) -> list[int]:
        """Takes a player's actions for the next game loop; one ActionResult for each."""
        with self.changed:
            world = self._world()
            results = []
            for action in actions:
                if action == _NO_ACTION:
                    results.append(1)  # PySC2 sends one in every step
                    continue
                result = session.check(world, action)
                results.append(result)
                if result == 1:
                    session.pending.append(action)
            return results

    def step(self, session: PlayerSession, count: int) -> int:
        """Waits until every client has stepped, and returns the game loop reached.

        Raises:
            GameError: the game is over, runs in realtime, or a client stays away too long.
        """
        with self.changed:
            world = self._world()
            if self.realtime:
                raise GameError("the game runs in realtime; it cannot be stepped")
            if world.outcome is not None:
                raise GameError("Game has already ended")
            if len(self.sessions) == 1:
                self._advance(count)
                return world.loop
            session.target_loop = world.loop + count
            deadline = time.monotonic() + PATIENCE
            while not session.left and not self.closed:
                if world.outcome is not None or session.target_loop is None or world.loop >= session.target_loop:
                    break
                present = [other for other in self.sessions if not other.left]
                targets = [other.target_loop for other in present]
                if all(target is not None for target in targets):
                    self._advance(min(target for target in targets if target is not None) - world.loop)
                    for other in present:
                        if other.target_loop is not None and world.loop >= other.target_loop:
                            other.target_loop = None
                    self.changed.notify_all()
                elif not self.changed.wait(max(0.0, deadline - time.monotonic())):
                    raise GameError(f"another player did not step within {PATIENCE:.0f} s")
            session.target_loop = None
            return world.loop

    def _advance(self, loops: int) -> None:
        world = self._world()
        if self.playing is not None:
            self._play_back(loops)
            return
        assert self.replay is not None
        sessions = (
            self.sessions if len(self.sessions) == 1 else sorted(self.sessions, key=lambda session: session.player)
        )
        for session in sessions:
            for action in session.pending:
                self.replay.actions.append((world.loop, session.player, "action", action.SerializeToString()))
                self._carry_out(session, action)
            session.pending.clear()
        world.advance(loops)
        for session in sessions:
            session.bury(world)

    def _carry_out(self, session: PlayerSession, action: sc2api_pb2.Action) -> None:
        world = self._world()
        report = session.carry_out(world, action)
        if action.HasField("action_chat"):
            for other in self.sessions:
                other.chat.append((session.player, action.action_chat.message[:255]))
        if report is not None:
            done = sc2api_pb2.Action()
            done.CopyFrom(report)
            done.game_loop = world.loop + 1
            # With two clients, reports of executed actions come one loop later than with one.
            delay = 2 if len(self.participants) > 1 else 1
            session.executed.append((world.loop + delay, done))

    def observe(self, session: PlayerSession, game_loop: int, disable_fog: bool) -> bytes:
        """A player's observation; in realtime waits for `game_loop`."""
        with self.changed:
            world = self._world()
            assert self.observer is not None
            deadline = time.monotonic() + PATIENCE
            while self.realtime and world.loop < game_loop and world.outcome is None and not session.left:
                if self.closed or not self.changed.wait(max(0.0, deadline - time.monotonic())):
                    break
            return self.observer.observe(session, disable_fog=disable_fog)

    def _run_clock(self) -> None:
        start, done = time.monotonic(), 0
        while True:
            with self.changed:
                if self.closed or self.world is None or self.world.outcome is not None:
                    self._clock = None
                    return
                self._advance(1)
                self.changed.notify_all()
            done += 1
            time.sleep(max(0.0, start + done / LOOPS_PER_WALL_SECOND - time.monotonic()))

    def restart(self) -> None:
        """The next episode, for a game with one client."""
        with self.changed:
            world = self._world()
            world.restart()
            self._ready()

    def leave(self, session: PlayerSession) -> None:
        """Gets up; a participant who leaves a running game of two loses it."""
        with self.changed:
            if session.left:
                return
            session.left = True
            world = self.world
            remaining = [other for other in self.sessions if not other.left]
            if world is not None and world.outcome is None and len(self.participants) > 1 and self.playing is None:
                winners = {other.player for other in remaining}
                world.outcome = Outcome({n: VICTORY if n in winners else DEFEAT for n in world.players})
            if not remaining:
                self.closed = True
            self.changed.notify_all()

    def close(self) -> None:
        """Ends the game for everybody."""
        with self.changed:
            self.closed = True
            for session in list(self.sessions):
                self.leave(session)

    # --- debugging ---

    def debug(self, session: PlayerSession, commands: Sequence[debug_pb2.DebugCommand]) -> list[str]:
        """Carries debug commands out at once; returns what could not be done."""
        with self.changed:
            world = self._world()
            problems = []
            for command in commands:
                problem = apply_debug(world, session.player, command)
                if problem:
                    problems.append(problem)
                elif self.replay is not None:
                    self.replay.actions.append((world.loop, session.player, "debug", command.SerializeToString()))
            self.changed.notify_all()
            return problems

    # --- replays ---

    @classmethod
    def from_replay(cls, replay: Replay, session: PlayerSession) -> Game:
        """A recorded game, to be played back for one observer.

        Raises:
            MapError: the map is unknown here.
        """
        setups = [
            sc2api_pb2.PlayerSetup(type=sc2api_pb2.Computer if entry["difficulty"] else sc2api_pb2.Participant)
            for entry in replay.players.values()
        ]
        game = cls(
            find_map(replay.map_path, replay.map_data),
            setups,
            seed=replay.seed,
            disable_fog=replay.disable_fog,
            map_data=replay.map_data,
        )
        players = {
            number: Player(race=str(entry["race"]), difficulty=int(entry["difficulty"]))
            for number, entry in replay.players.items()
        }
        game.requested = {number: RACE_IDS.get(player.race, 0) for number, player in players.items()}
        game.world = World(game.map, players, seed=game.seed, disable_fog=game.disable_fog, episode=replay.episode)
        game.playing = replay
        # Every recorded player gets a session of its own, so that selections and cameras are played back too.
        game.sessions = [session]
        game._actors = {
            number: session if number == session.player else PlayerSession(number, session.options)
            for number in players
        }
        for actor in game._actors.values():
            actor.begin(game.world)
        with game.changed:
            game._ready()
        return game

    def _play_back(self, loops: int) -> None:
        world, replay = self._world(), self.playing
        assert replay is not None
        goal = min(world.loop + loops, replay.loops)
        while world.loop < goal and world.outcome is None:
            while self._next_entry < len(replay.actions) and replay.actions[self._next_entry][0] <= world.loop:
                _, player, kind, data = replay.actions[self._next_entry]
                self._next_entry += 1
                if kind == "debug":
                    apply_debug(world, player, debug_pb2.DebugCommand.FromString(data))
                elif player in self._actors:
                    self._carry_out(self._actors[player], sc2api_pb2.Action.FromString(data))
            following = goal
            if self._next_entry < len(replay.actions):
                following = min(goal, replay.actions[self._next_entry][0])
            world.advance(max(1, following - world.loop))
            self.sessions[0].bury(world)
        if world.loop >= replay.loops and world.outcome is None:
            results = replay.results or dict.fromkeys(replay.players, UNDECIDED)
            world.outcome = Outcome(results)

    def save_replay(self) -> bytes:
        """The game so far, as `Replay.to_bytes`."""
        with self.changed:
            if self.replay is None:
                raise GameError("a replay that is being played is not recorded again")
            world = self._world()
            self.replay.loops = world.loop
            self.replay.results = dict(world.outcome.results) if world.outcome is not None else {}
            return self.replay.to_bytes()

    _actors: dict[int, PlayerSession]

    def _world(self) -> World:
        if self.world is None:
            raise GameError("the game has not started")
        return self.world


def ordered(setups: Sequence[sc2api_pb2.PlayerSetup], game_map: GameMap) -> list[sc2api_pb2.PlayerSetup]:
    """The players' setups in the order of their ids: on a scenario's map the participants are its first side."""
    players = [setup for setup in setups if setup.type != sc2api_pb2.Observer]
    if game_map.scenario is not None:
        players.sort(key=lambda setup: setup.type != sc2api_pb2.Participant)
    return players


def apply_debug(world: World, player: int, command: debug_pb2.DebugCommand) -> str | None:
    """Carries out one debug command; says why if it cannot."""
    name = command.WhichOneof("command")
    handlers: dict[str, Callable[[World, int, Any], str | None]] = {
        "create_unit": _create,
        "kill_unit": _kill,
        "unit_value": _set_value,
        "game_state": _set_state,
        "score": _set_score,
        "end_game": _end_game,
        # Drawings are for the game's window, of which there is none.
        "draw": lambda *_: None,
    }
    if name not in handlers:
        return f"the debug command {name or '(empty)'} is not supported by the simulator"
    return handlers[name](world, player, getattr(command, name))


def _create(world: World, player: int, command: debug_pb2.DebugCreateUnit) -> str | None:
    kind = world.kinds.of_type(command.unit_type)
    if kind < 0:
        name = recorded_units().get(command.unit_type, {"name": "unknown to the catalogue"})["name"]
        return f"create_unit: the simulator cannot play unit type {command.unit_type} ({name})"
    if command.owner not in (*world.players, 2, st.NEUTRAL):
        return f"create_unit: there is no player {command.owner}"
    count = command.quantity or 1
    if count > MAX_CREATED:
        return f"create_unit: quantity {count} is more than {MAX_CREATED}"
    x, y = command.pos.x, command.pos.y
    if not (0 <= x <= world.map.spec.width and 0 <= y <= world.map.spec.height):
        return f"create_unit: ({x}, {y}) is not on the map"
    for _ in range(count):
        if world.create(kind, command.owner, x, y) < 0:
            return "create_unit: the game has no room for more units"
    return None


def _kill(world: World, player: int, command: debug_pb2.DebugKillUnit) -> str | None:
    for tag in command.tag:
        slot = world.slot(tag)
        if slot >= 0:
            world.kill(slot)
    return None


def _set_value(world: World, player: int, command: debug_pb2.DebugSetUnitValue) -> str | None:
    slot = world.slot(command.unit_tag)
    if slot < 0:
        return f"unit_value: there is no unit with tag {command.unit_tag}"
    fields = {1: (st.F_ENERGY, st.F_ENERGY_MAX), 2: (st.F_HEALTH, st.F_HEALTH_MAX), 3: (st.F_SHIELD, st.F_SHIELD_MAX)}
    if command.unit_value not in fields:
        return f"unit_value: unknown value {command.unit_value}"
    now, most = fields[command.unit_value]
    if not 0 <= command.value < float("inf"):
        return f"unit_value: {command.value} is not a number of at least 0"
    world.state.f[0, now, slot] = min(command.value, float(world.state.f[0, most, slot]))
    return None


def _set_state(world: World, player: int, state: int) -> str | None:
    toggles = {
        debug_pb2.god: world.god,
        debug_pb2.show_map: world.reveal,
        debug_pb2.control_enemy: world.control_enemy,
    }
    cheats = {
        debug_pb2.free: CHEAT_FREE,
        debug_pb2.food: CHEAT_FOOD,
        debug_pb2.tech_tree: CHEAT_TECH,
        debug_pb2.fast_build: CHEAT_FAST,
    }
    gifts = {
        debug_pb2.all_resources: (B_MINERALS, B_VESPENE),
        debug_pb2.minerals: (B_MINERALS,),
        debug_pb2.gas: (B_VESPENE,),
    }
    name = debug_pb2.DebugGameState.Name(state)  # type: ignore[arg-type]
    if state in toggles:
        toggles[state] ^= {player}
    elif state not in cheats and state not in gifts:
        return f"the debug state {name} is not supported by the simulator"
    elif not world.has_economy:
        return f"the debug state {name} needs a map with an economy; {world.map.name} has none"
    elif state in cheats:
        bank = world.economy.bank[0, player]
        bank[B_CHEATS] = int(bank[B_CHEATS]) ^ cheats[state]
    else:
        for field in gifts[state]:
            world.economy.bank[0, player, field] += GIFT
    return None


def _set_score(world: World, player: int, command: debug_pb2.DebugSetScore) -> str | None:
    if not abs(command.score) < 2**31:
        return f"score: {command.score} does not fit the protocol"
    world.score_override[player] = int(command.score)
    return None


def _end_game(world: World, player: int, command: debug_pb2.DebugEndGame) -> str | None:
    won = command.end_result == debug_pb2.DebugEndGame.DeclareVictory
    world.outcome = Outcome(
        {n: (VICTORY if won else DEFEAT) if n == player else (DEFEAT if won else VICTORY) for n in world.players}
    )
    return None
