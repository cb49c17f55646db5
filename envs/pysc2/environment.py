"""The Gymnasium environment over PySC2: the observations and actions of `SC2VectorEnv`, from the game or the server.

Each world is a game behind PySC2's passthrough interface (exact protobuf). What the game tells is written into an
engine state of the simulator's own layout, the mirror. So the same code makes masks, observations and rewards. Orders
that the action views give in the mirror go out as raw commands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pysc2_evolved.env import sc2_env
from pysc2_evolved.lib import protocol, remote_controller, sc_process
from s2clientprotocol import query_pb2, raw_pb2, sc2api_pb2

from envs.engine.state import layout as st
from envs.engine.state.units import list_alive, set_kind
from envs.engine.state.worlds import reset_world
from envs.protocol.kinds import CUSTOM_TYPE_IDS
from envs.protocol.message_keys import NEUTRAL_ALLIANCE, SELF, STIMPACK_MARAUDER, STIMPACK_MARINE
from envs.protocol.tables import TAG_MASK, TAG_SHIFT
from envs.pysc2.client import TRANSPORTS, GameMissing, find_game, scenario_map_class, simulator
from envs.runtime import driver
from envs.scenarios.compiled import (
    E_EPISODE,
    E_FINAL_STEP,
    E_SEED,
    E_STEP,
    EF_SCORE,
    P_NEUTRAL_END,
    P_STEP_LIMIT,
    P_TEAM_1_END,
    P_TEAM_2_END,
)
from envs.scenarios.scenario import Scenario, load_scenario
from envs.vector_env import SC2VectorEnv
from perceiver_agents.paths import absolute

# Which built-in computer plays a scripted policy on the server (`envs.protocol.world.computer_policy`), and the
# computers by PySC2's own names.
DIFFICULTIES = {"idle": 1, "attack-wave": 7, "attack-move": 8, "focus-fire": 9, "kite": 10}
DIFFICULTIES |= {difficulty.name: int(difficulty) for difficulty in sc2_env.Difficulty}
OLDEST_BUILD = 55958  # 3.16.1, the first version whose protocol PySC2 speaks
NOT_ORDERED = -1
SEED_STRIDE = 0x9E3779B1  # between the games of a world with two agents
_ORDER_OF_ABILITY = {
    18: st.ORDER_HOLD,
    3793: st.ORDER_HOLD,
    16: st.ORDER_MOVE,
    3794: st.ORDER_MOVE,
    17: st.ORDER_PATROL,
    3795: st.ORDER_PATROL,
    386: st.ORDER_HEAL,
    1442: st.ORDER_BLINK,
    3687: st.ORDER_BLINK,
}
_ATTACKS = (23, 3674, 19)
_FAILURES = (
    protocol.ConnectionError,
    protocol.ProtocolError,
    remote_controller.ConnectError,
    remote_controller.RequestError,
    OSError,
)


class VersionError(RuntimeError):
    """The game speaks a protocol that PySC2 does not; the message says what to do."""


class _PassthroughEnv(sc2_env.SC2Env):
    """PySC2's environment, started anew by `restart_game` also against a computer, or with a new seed."""

    def new_game(self, seed: int) -> None:
        """The next `reset` creates a game with this seed."""
        self._random_seed = seed
        self._fresh = False

    _fresh = True

    def _restart(self) -> None:
        if self._fresh and self._num_agents == 1:
            self._controllers[0].restart()
            return
        if self._num_agents > 1:
            self._parallel.run(controller.leave for controller in self._controllers)  # type: ignore[arg-type]
        self._create_join()
        self._fresh = True

    def check_version(self) -> None:
        """Raises `VersionError` if the game is older than PySC2's protocol."""
        told = self._controllers[0].ping()
        if told.base_build < OLDEST_BUILD:
            raise VersionError(
                f"StarCraft II {told.game_version} (build {told.base_build}) speaks an older protocol than PySC2, "
                f"which needs 3.16.1 (build {OLDEST_BUILD}) or newer; update the game, or set SC2PATH to a newer one"
            )

    def replay(self) -> bytes:
        """The running game as a replay: a `.SC2Replay` of the game, or the server's own format."""
        return self._controllers[0].save_replay()

    def abilities(self, player: int, tags: Sequence[int]) -> dict[int, set[int]]:
        """The abilities that units of agent `player` have now, by tag."""
        request = query_pb2.RequestQuery(
            abilities=[query_pb2.RequestQueryAvailableAbilities(unit_tag=tag) for tag in tags]
        )
        answer = self._controllers[player].query(request)
        return {entry.unit_tag: {ability.ability_id for ability in entry.abilities} for entry in answer.abilities}


class PySC2VectorEnv(SC2VectorEnv):
    """`SC2VectorEnv` on PySC2 instead of the batched simulator: same spaces, rewards and infos.

    Args:
        scenario: as for `SC2VectorEnv`; with `transport="game"` a map of the same name must be installed.
        num_envs: games, each its own process (or server, or in-memory simulator).
        transport: "memory" and "websocket" play on the simulator behind the protocol, "game" on StarCraft II.
        players: 1, or 2 for two agents in each battle, each with a game process of its own. An episode of two agents
            is a new game with a seed of its own: only the first one after `reset(seed=...)` is the one that
            `SC2VectorEnv` plays.
        opponent: the built-in computer that plays the other side, by difficulty ("very_easy" ... "cheat_insane", as in
            PySC2) or by the scripted policy that the server's computer plays; None: the scenario's. SMAC's maps command
            the enemy themselves, whatever the difficulty.
        step_mul: game loops a step, the scenario's unless given; the episode's length in game loops stays.
        realtime: the game runs by itself; an observation comes when `step_mul` loops have passed.
        replay_dir: where replays are saved when episodes end, of every `replay_episodes`th episode of each world. The
            server's replays are in a format of its own.
        num_threads: games stepped at the same time. Those of the server in memory share the interpreter; others are
            waited for together.

    The games live outside of this object, so it cannot be saved (`in_other_processes`).

    A game that crashes ends its episode as truncated, and a new one is launched; `crashes` counts them. What the map
    shows but the own units do not see (SMAC's maps are revealed) is hidden, where the server tells the two apart.

    Raises:
        GameMissing: `transport="game"` and no installation is found.
        VersionError: the game is older than PySC2's protocol.
        ValueError: two agents or an opponent on a mini-game, an unknown name, a step_mul or replay_episodes below 1.
    """

    in_other_processes = True
    _games: list[_PassthroughEnv | None] = []  # noqa: RUF012  (there also when an environment is refused half-made)

    def __init__(
        self,
        scenario: str | Path | Scenario = "3m",
        num_envs: int = 1,
        *,
        transport: str = "memory",
        seed: int | None = None,
        players: int = 1,
        action_view: str = "unit",
        observation_view: str = "entities",
        opponent: str | None = None,
        illegal_actions: str = "no_op",
        num_threads: int = 1,
        copy: bool = True,
        step_mul: int | None = None,
        realtime: bool = False,
        replay_dir: str | Path | None = None,
        replay_episodes: int = 1,
    ) -> None:
        if transport not in (*TRANSPORTS, "game"):
            raise ValueError(f"transport is {transport!r}; expected one of {', '.join((*TRANSPORTS, 'game'))}")
        loaded = load_scenario(scenario)
        if opponent is not None and (opponent not in DIFFICULTIES or loaded.rules != "battle"):
            raise ValueError(
                f"opponent is {opponent!r} on {loaded.name}; expected one of {', '.join(DIFFICULTIES)}, on a battle"
            )
        if players == 2 and opponent is not None:
            raise ValueError(f"opponent is {opponent!r}, but with players=2 both sides are agents")
        for name, number in (("step_mul", step_mul), ("replay_episodes", replay_episodes)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; expected at least 1")
        if step_mul is not None:
            limit = -(-loaded.step_limit * loaded.step_mul // step_mul)
            loaded = dataclasses.replace(loaded, step_mul=step_mul, step_limit=limit)
        super().__init__(
            loaded,
            num_envs,
            seed=seed,
            players=players,
            action_view=action_view,
            observation_view=observation_view,
            illegal_actions=illegal_actions,
            num_threads=num_threads,
            copy=copy,
        )
        # A user's own scenario goes to the server as its file's text.
        self._text = absolute(Path(scenario)).read_bytes() if str(scenario).endswith(".toml") else b""  # type: ignore[arg-type]
        self.transport = transport
        self.realtime = realtime
        self.crashes = 0
        self.replay_dir = None if replay_dir is None else absolute(Path(replay_dir))
        self.replay_episodes = replay_episodes
        self._difficulty = DIFFICULTIES[opponent or self.scenario.teams[1].opponent]
        self._games = [None] * self.num_envs
        self._tags: list[dict[int, int]] = [{} for _ in range(self.num_envs)]
        self._tag_of_slot = np.zeros((self.num_envs, self.state.i.shape[2]), np.int64)
        self._visible = np.zeros((self.num_envs, self.state.i.shape[2]), np.int32)
        self._first_type = np.zeros(self.num_envs, np.int64)
        kinds = self.rules.static.kind_i[:, st.KI_UNIT_TYPE]
        self._kind_of_type = {int(number): kind for kind, number in reversed(list(enumerate(kinds)))}
        # The slots of each agent's units.
        ends = [int(self.compiled.i[edge]) for edge in (P_TEAM_1_END, P_NEUTRAL_END, P_TEAM_2_END)]
        self._own = (range(ends[0]), range(ends[1], ends[2]))[: self.players]
        self._start = self._start_marked
        self._observers.insert(0, self._restore_visibility)

    # --- Gymnasium ---

    def _compile(self) -> None:
        """Nothing ahead: the game advances the battles, and the other phases compile at their first use."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """As `SC2VectorEnv.reset`; seeds lie below 2^32, as in the protocol."""
        if isinstance(seed, int | np.integer) and not 0 <= int(seed) + self.num_envs <= 2**32:
            raise ValueError(f"seed is {seed}; the protocol takes seeds below 2**32")
        return super().reset(seed=seed, options=options)

    def set_opponents(self, opponents: Any) -> None:
        """The computer of a game is chosen when the environment is made."""
        raise ValueError("a PySC2 environment has one opponent, chosen when it is made (opponent=...)")

    def close_extras(self, **kwargs: Any) -> None:
        super().close_extras(**kwargs)
        for game in self._games:
            if game is not None:
                with contextlib.suppress(*_FAILURES):
                    game.close()
        self._games = []

    def _step_worlds(self) -> None:
        threads = self.num_threads
        edges = [self.num_envs * n // threads for n in range(threads + 1)]
        if threads == 1:
            self._step_range(0, self.num_envs)
            return
        # next() on a list's iterator is atomic under the GIL, so each part is taken once.
        parts = iter(list(itertools.pairwise(edges)))

        def work() -> None:
            for first, last in parts:
                self._step_range(first, last)

        self.thread_pool.run(work)

    def _step_range(self, first: int, last: int) -> None:
        stim = self.state.f[first:last, st.F_STIM].copy()
        queued = self.state.i[first:last, st.I_QUEUED].copy()
        orders = self.state.i[first:last, st.I_ORDER].copy()
        for own in self._own:
            self.state.i[first:last, st.I_ORDER, own.start : own.stop] = NOT_ORDERED
        self._command(self._context, first, last)
        ei = self.episode.i
        crashed = []
        for b in range(first, last):
            actions = [self._actions(b, own, stim[b - first], queued[b - first]) for own in self._own]
            if not self._step_game(b, actions):
                crashed.append((b, int(ei[b, E_STEP]) + 1))
                self.state.i[b, st.I_ORDER] = orders[b - first]
                ei[b, E_STEP] = self.compiled.i[P_STEP_LIMIT]  # truncates the episode
        driver.score_worlds(self._context, first, last)
        for b, steps in crashed:
            ei[b, E_STEP] = ei[b, E_FINAL_STEP] = steps
        if self._restart[first:last].any():
            if self.replay_dir is not None:
                self._save_replays(first, last)
            for observer in self._observers:
                observer(self._context, self._final_refs[self._turn], True, first, last)
            self._start(self._context, first, last)
            driver.open_episodes(self._context, first, last)
        for observer in self._observers:
            observer(self._context, self._output_refs[self._turn], False, first, last)

    # --- games ---

    def _launch(self, seed: int) -> _PassthroughEnv:
        battle = self.scenario.rules == "battle"
        terran = sc2_env.Race.terran
        players: list[Any] = [sc2_env.Agent(terran)]
        if self.players == 2:
            players.append(sc2_env.Agent(terran))
        elif battle:
            players.append(sc2_env.Bot(terran, sc2_env.Difficulty(self._difficulty)))
        arguments: dict[str, Any] = {
            "map_name": scenario_map_class(self.scenario, players=2 if battle else 1, text=self._text)(),
            "players": players,
            "agent_interface_format": sc2api_pb2.InterfaceOptions(raw=True, score=True),
            "step_mul": self.scenario.step_mul,
            "game_steps_per_episode": 0,
            "random_seed": seed,
            "realtime": self.realtime,
        }
        game = self._launch_game(arguments) if self.transport == "game" else None
        if game is None:
            with simulator(self.transport):
                game = _PassthroughEnv(**arguments)
        try:
            game.check_version()
        except VersionError:
            game.close()
            raise
        return game

    def _launch_game(self, arguments: dict[str, Any]) -> _PassthroughEnv:
        folder = find_game()
        try:
            return _PassthroughEnv(**arguments)
        except (sc_process.SC2LaunchError, OSError, ValueError) as error:
            raise GameMissing(
                f"StarCraft II in {folder} could not be started ({error}); the map {self.scenario.name} must lie below "
                f"{folder / 'Maps'}, and one game a world must fit into memory; or play on the simulator: transport "
                "'memory'"
            ) from error

    def _start_marked(self, context: Any, first: int, last: int) -> None:
        """Starts the next episode of the worlds marked in `restart`, and mirrors its first observation."""
        for b in range(first, last):
            if not self._restart[b]:
                continue
            seed, episode = int(self.episode.i[b, E_SEED]), int(self.episode.i[b, E_EPISODE])
            game = self._games[b]
            if self.players == 2:
                seed = (seed + episode * SEED_STRIDE) % 2**32
            try:
                if game is None:
                    self._games[b] = game = self._launch(seed)
                elif episode == 0 or self.players == 2:
                    game.new_game(seed)
                timesteps = game.reset()
            except _FAILURES:
                if game is None:
                    raise
                timesteps = self._relaunch(b).reset()
            reset_world(self.state, b, seed)
            self._tags[b].clear()
            self._tag_of_slot[b] = 0
            self._mirror(b, [timestep.observation for timestep in timesteps])

    def _relaunch(self, b: int) -> _PassthroughEnv:
        self.crashes += 1
        game = self._games[b]
        if game is not None:
            with contextlib.suppress(Exception):
                game.close()
        fresh = self._launch((int(self.episode.i[b, E_SEED]) + self.crashes) % 2**32)
        self._games[b] = fresh
        return fresh

    def _step_game(self, b: int, actions: list[list[sc2api_pb2.Action]]) -> bool:
        """Steps a game and mirrors what it shows; False if it has crashed, and another one has been launched."""
        game = self._games[b]
        assert game is not None
        try:
            timesteps = game.step(actions)
        except _FAILURES:
            self._relaunch(b)
            return False
        self._mirror(b, [timestep.observation for timestep in timesteps])
        return True

    def _save_replays(self, first: int, last: int) -> None:
        """Writes the replays of the episodes that have ended in the worlds [first, last)."""
        assert self.replay_dir is not None
        self.replay_dir.mkdir(parents=True, exist_ok=True)
        for b in range(first, last):
            game, episode = self._games[b], int(self.episode.i[b, E_EPISODE])
            if self._restart[b] and game is not None and episode % self.replay_episodes == 0:
                name = f"{self.scenario.name}-seed{int(self.episode.i[b, E_SEED])}-episode{episode}.SC2Replay"
                with contextlib.suppress(*_FAILURES):  # of a game that has crashed there is none
                    (self.replay_dir / name).write_bytes(game.replay())

    # --- orders ---

    def _actions(self, b: int, own: range, stim: np.ndarray, queued: np.ndarray) -> list[sc2api_pb2.Action]:
        """What the mirror's units in the slots `own` of one agent were told, as raw commands."""
        f, i = self.state.f[b], self.state.i[b]
        actions = []

        def command(slot: int, ability: int, target: int, x: float, y: float, point: bool, queue: bool) -> None:
            action = sc2api_pb2.Action()
            order = action.action_raw.unit_command
            order.ability_id = ability
            order.unit_tags.append(int(self._tag_of_slot[b, slot]))
            order.queue_command = queue
            if target >= 0:
                order.target_unit_tag = int(self._tag_of_slot[b, target])
            elif point:
                order.target_world_space_pos.x, order.target_world_space_pos.y = x, y
            actions.append(action)

        def give(slot: int, order: int, target: int, x: float, y: float, queue: bool) -> None:
            kind = int(i[st.I_KIND, slot])
            point = order in (st.ORDER_MOVE, st.ORDER_ATTACK_MOVE, st.ORDER_PATROL, st.ORDER_BLINK)
            command(slot, int(self.rules.ability[kind, order]), target, x, y, point, queue)

        for slot in own:
            if not i[st.I_ALIVE, slot]:
                continue
            if f[st.F_STIM, slot] != stim[slot]:
                give(slot, st.ORDER_STIM, -1, 0.0, 0.0, False)
            if i[st.I_ORDER, slot] != NOT_ORDERED:
                x, y = float(f[st.F_ORDER_X, slot]), float(f[st.F_ORDER_Y, slot])
                give(slot, int(i[st.I_ORDER, slot]), int(i[st.I_ORDER_TARGET, slot]), x, y, False)
            else:
                for n in range(queued[slot], int(i[st.I_QUEUED, slot])):
                    order, target, _ = (int(value) for value in self.state.queue_i[b, slot, n])
                    x, y = (float(value) for value in self.state.queue_f[b, slot, n])
                    give(slot, order, target, x, y, True)
        return actions

    # --- the mirror ---

    def _restore_visibility(self, context: Any, output: Any, only_ended: bool, first: int, last: int) -> None:
        """The first of the observers: visibility is what the game told, whatever the engine makes of the mirror."""
        self.state.i[first:last, st.I_VISIBLE] = self._visible[first:last]

    def _mirror(self, b: int, responses: Sequence[sc2api_pb2.ResponseObservation]) -> None:
        """Writes the observations of a game's agents into world `b` of the engine state.

        A unit is taken from its own agent's view. Of an enemy that has an agent too, only whether it is in sight is
        read.
        """
        state, f, i = self.state, self.state.f[b], self.state.i[b]
        views = [response.observation.raw_data for response in responses]
        tags = self._tags[b]
        present = {unit.tag for raw in views for unit in raw.units}
        dead = {tag for raw in views for tag in raw.event.dead_units}
        first_enemy = int(self.compiled.i[P_NEUTRAL_END])
        for tag, slot in list(tags.items()):
            # An enemy that is not listed may be out of sight; anything else that is not listed is gone.
            if tag not in present and (tag in dead or slot < first_enemy or self.players == 2):
                del tags[tag]
                i[st.I_ALIVE, slot] = 0
                self._tag_of_slot[b, slot] = 0
                f[st.F_HEALTH, slot] = f[st.F_SHIELD, slot] = 0.0
        self._visible[b] = 0
        if not tags:
            # SMAC's maps have unit types of their own for the agents, numbered by name from the lowest on.
            own = [u.unit_type for u in views[0].units if u.alliance == SELF and u.unit_type not in self._kind_of_type]
            self._first_type[b] = (
                min(own, default=CUSTOM_TYPE_IDS) if self.scenario.random_teams is None else CUSTOM_TYPE_IDS
            )
        for player, raw in enumerate(views):
            blinkers = []
            for unit in sorted(raw.units, key=lambda unit: unit.tag):
                if self.players == 2 and unit.alliance != SELF:
                    continue
                kind = self._kind(unit, int(self._first_type[b]))
                slot = tags.get(unit.tag, -1)
                if slot < 0 and kind >= 0:
                    slot = self._free_slot(b, player, unit)
                if slot < 0 or kind < 0:
                    continue  # more units than the scenario has places for, or a kind that it does not know
                tags[unit.tag] = slot
                self._tag_of_slot[b, slot] = unit.tag
                self._mirror_unit(b, slot, kind, player, unit)
                if unit.alliance == SELF and self.rules.static.kind_f[kind, st.K_BLINK_RANGE] > 0:
                    blinkers.append(unit.tag)
            self._mirror_blink(b, player, blinkers, responses[player])
        if self.players == 2:
            for player, raw in enumerate(views):
                for unit in raw.units:
                    if unit.alliance != SELF and unit.tag in tags and unit.display_type == raw_pb2.Visible:
                        self._visible[b, tags[unit.tag]] |= 2 << player
        state.w[b, st.W_LOOP] = responses[0].observation.game_loop
        list_alive(state, b)
        if self.scenario.rules != "battle":
            self.episode.f[b, EF_SCORE] = responses[0].observation.score.score

    def _mirror_blink(self, b: int, player: int, tags: list[int], response: sc2api_pb2.ResponseObservation) -> None:
        """Whether units can blink: an observation does not tell, so it is asked."""
        game = self._games[b]
        if not tags or game is None or response.player_result:
            return
        abilities = game.abilities(player, tags)
        for tag in tags:
            ready = abilities.get(tag, set()) & {1442, 3687}
            self.state.f[b, st.F_BLINK_COOLDOWN, self._tags[b][tag]] = 0.0 if ready else 1.0

    def _kind(self, unit: raw_pb2.Unit, first_type: int) -> int:
        kind = self._kind_of_type.get(unit.unit_type, -1)
        if kind >= 0 or unit.alliance != SELF:
            return kind
        teams = self.scenario.random_teams
        names = sorted(teams.types if teams else {start.unit_type for start in self.scenario.teams[0].units})
        index = unit.unit_type - first_type
        return self.rules.kind[names[index]] if 0 <= index < len(names) else -1

    def _free_slot(self, b: int, player: int, unit: raw_pb2.Unit) -> int:
        """A slot of the unit's side: the one that the tag names, as tags do in the game, else the first free one."""
        edges = (P_TEAM_1_END, P_NEUTRAL_END, P_TEAM_2_END)
        ends = [0, *(int(self.compiled.i[edge]) for edge in edges)]
        side = 2 * player if unit.alliance == SELF else (1 if unit.alliance == NEUTRAL_ALLIANCE else 2)
        alive = self.state.i[b, st.I_ALIVE]
        named = (unit.tag >> TAG_SHIFT) - 1
        if ends[side] <= named < ends[side + 1]:
            if alive[named]:
                self._tags[b] = {tag: slot for tag, slot in self._tags[b].items() if slot != named}
            return int(named)
        return next((slot for slot in range(ends[side], ends[side + 1]) if not alive[slot]), -1)

    def _mirror_unit(self, b: int, slot: int, kind: int, player: int, unit: raw_pb2.Unit) -> None:
        f, i = self.state.f[b], self.state.i[b]
        if not i[st.I_ALIVE, slot] or i[st.I_KIND, slot] != kind:
            set_kind(self.state, self.rules.static, b, slot, kind)
        i[st.I_ALIVE, slot] = 1
        i[st.I_TAG, slot] = (unit.tag & TAG_MASK) + 1
        own = unit.alliance == SELF
        i[st.I_OWNER, slot] = 1 + player if own else (st.NEUTRAL if unit.alliance == NEUTRAL_ALLIANCE else 2)
        f[st.F_X, slot], f[st.F_Y, slot], f[st.F_Z, slot] = unit.pos.x, unit.pos.y, unit.pos.z
        # The sine of the float next to pi has the wrong sign, which would turn west by a full circle.
        sine = np.sin(unit.facing)
        f[st.F_FACING_X, slot] = np.cos(unit.facing)
        f[st.F_FACING_Y, slot] = sine if sine * unit.facing >= 0 else np.copysign(0.0, unit.facing)
        f[st.F_RADIUS, slot] = unit.radius
        f[st.F_HEALTH, slot], f[st.F_SHIELD, slot], f[st.F_ENERGY, slot] = unit.health, unit.shield, unit.energy
        if unit.health_max > 0:
            f[st.F_HEALTH_MAX, slot] = unit.health_max
            f[st.F_SHIELD_MAX, slot], f[st.F_ENERGY_MAX, slot] = unit.shield_max, unit.energy_max
        f[st.F_COOLDOWN, slot] = unit.weapon_cooldown
        stimmed = STIMPACK_MARINE in unit.buff_ids or STIMPACK_MARAUDER in unit.buff_ids
        f[st.F_STIM, slot] = 1.0 if stimmed else 0.0
        for flag, on in (
            (st.FLAG_FLYING, unit.is_flying),
            (st.FLAG_BURROWED, unit.is_burrowed),
            (st.FLAG_CLOAKED, unit.cloak in (raw_pb2.Cloaked, raw_pb2.CloakedDetected, raw_pb2.CloakedAllied)),
        ):
            i[st.I_FLAGS, slot] = i[st.I_FLAGS, slot] | flag if on else i[st.I_FLAGS, slot] & ~flag
        orders = list(unit.orders)
        change = int(self.rules.ability[kind, st.ORDER_SIEGE])
        changing = bool(orders) and change > 0 and orders[0].ability_id == change
        f[st.F_BUSY, slot] = 1.0 if changing and orders[0].progress > 0 else 0.0
        if changing and orders[0].target_unit_tag == unit.tag:
            orders, changing = orders[1:], False  # told beside a later order
        i[st.I_ORDER, slot] = st.ORDER_STOP
        if changing:
            i[st.I_ORDER, slot] = st.ORDER_SIEGE
        elif orders:
            ability = orders[0].ability_id
            if ability in _ATTACKS:
                aimed = orders[0].HasField("target_unit_tag")
                i[st.I_ORDER, slot] = st.ORDER_ATTACK if aimed else st.ORDER_ATTACK_MOVE
            else:
                i[st.I_ORDER, slot] = _ORDER_OF_ABILITY.get(ability, st.ORDER_STOP)
        i[st.I_QUEUED, slot] = max(0, min(len(orders) - 1, st.QUEUE))
        seen = unit.display_type == raw_pb2.Visible
        # Bit p is player p's sight; enemies without an agent see themselves.
        self._visible[b, slot] = (2 << player if seen else 0) | (0 if own else 4)
