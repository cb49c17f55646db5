"""`StarCraft2Env`: SMAC's class, played on the simulator in this process."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from s2clientprotocol import raw_pb2, sc2api_pb2

from envs.engine.state import layout as st
from envs.protocol.layers import height_image
from envs.protocol.maps import scenario_map
from envs.protocol.observation import start_raw
from envs.protocol.replay import Replay
from envs.protocol.tables import TAG_SHIFT
from envs.protocol.world import RACES, Player, World
from envs.runtime import driver
from envs.smac import views
from envs.smac.maps import MAX_COOLDOWN, MAX_SHIELD, OTHER_MAX_COOLDOWN, map_parameters
from envs.views.frames import NUM_FRAME_COLUMNS, Frame

_logger = logging.getLogger(__name__)
DIFFICULTIES = {**{str(level): level for level in range(1, 10)}, "A": 10}
ABILITIES = {"stop": 4, "move": 16, "attack": 23, "heal": 386}
_WAYS = {views.NORTH: (0, 1), views.SOUTH: (0, -1), views.EAST: (1, 0), views.WEST: (-1, 0)}
_LOST, _WON, _DRAWN = -1, 1, 0
# Loops that SMAC lets pass after it has killed all units for the next episode.
_RESTART_LOOPS = 2


class StarCraft2Env:
    """One battle of SMAC's maps with SMAC's interface, arrays and rewards.

    Arguments and methods are those of SMAC's `StarCraft2Env`. A `World` plays that the protocol server would play with
    the same seed, so SMAC's own code on the server gets the same numbers. What differs on purpose:

    * `obs_timestep_number` fills the place that `get_obs_size` counts for it; SMAC appends one number more.
    * `reset` before the first episode ends does not count the enemies' health into `max_reward` twice.
    * an illegal action is a `ValueError` that names the agent, the action and what is legal.
    * `seed(number)` sets the seed of the next first episode; without an argument it tells the seed, as in SMAC.

    Args:
        map_name: one of SMAC's maps, or the path of a scenario file with fixed teams.
        step_mul: game loops of a step; None takes the map's.
        move_amount: how far a move goes, in world units.
        difficulty: "1" to "9", "A"; "7" is SMAC's.
        seed: of the game; None draws one.
        continuing_episode: tells in `info["episode_limit"]` that the time was up.
        obs_all_health, obs_own_health, obs_last_action, obs_pathing_grid, obs_terrain_height, obs_instead_of_state,
            obs_timestep_number, state_last_action, state_timestep_number: what observations and state hold.
        reward_sparse, reward_only_positive, reward_death_value, reward_win, reward_defeat, reward_negative_scale,
            reward_scale, reward_scale_rate: what is rewarded.
        replay_dir, replay_prefix: where `save_replay` writes; this folder and the map's name unless given.
        heuristic_ai, heuristic_rest: SMAC's scripted policy plays in place of the given actions; `heuristic_rest` keeps
            it to actions that agents may take.
        debug: logs actions and rewards.
        game_version, window_size_x, window_size_y: accepted for SMAC's configurations; there is no game to choose.

    Raises:
        ValueError: no such map or difficulty, or a number out of range.
    """

    def __init__(
        self,
        map_name: str = "8m",
        step_mul: int | None = 8,
        move_amount: float = 2,
        difficulty: str = "7",
        game_version: str | None = None,
        seed: int | None = None,
        continuing_episode: bool = False,
        obs_all_health: bool = True,
        obs_own_health: bool = True,
        obs_last_action: bool = False,
        obs_pathing_grid: bool = False,
        obs_terrain_height: bool = False,
        obs_instead_of_state: bool = False,
        obs_timestep_number: bool = False,
        state_last_action: bool = True,
        state_timestep_number: bool = False,
        reward_sparse: bool = False,
        reward_only_positive: bool = True,
        reward_death_value: float = 10,
        reward_win: float = 200,
        reward_defeat: float = 0,
        reward_negative_scale: float = 0.5,
        reward_scale: bool = True,
        reward_scale_rate: float = 20,
        replay_dir: str = "",
        replay_prefix: str = "",
        window_size_x: int = 1920,
        window_size_y: int = 1200,
        heuristic_ai: bool = False,
        heuristic_rest: bool = False,
        debug: bool = False,
    ) -> None:
        self.map_name = map_name
        self.parameters = map_parameters(map_name)
        scenario = self.parameters.scenario
        self.n_agents, self.n_enemies = self.parameters.n_agents, self.parameters.n_enemies
        self.episode_limit = self.parameters.limit
        self._step_mul = scenario.step_mul if step_mul is None else int(step_mul)
        self._move_amount = move_amount
        if self._step_mul < 1 or not move_amount > 0:
            raise ValueError(f"step_mul is {step_mul} and move_amount {move_amount}; both must be positive")
        if difficulty not in DIFFICULTIES:
            raise ValueError(f"difficulty is {difficulty!r}; expected one of {', '.join(DIFFICULTIES)}")
        self.difficulty = difficulty
        self._seed = seed
        self.continuing_episode = continuing_episode
        self.obs_all_health = obs_all_health
        self.obs_own_health = obs_own_health or obs_all_health
        self.obs_last_action = obs_last_action
        self.obs_pathing_grid = obs_pathing_grid
        self.obs_terrain_height = obs_terrain_height
        self.obs_instead_of_state = obs_instead_of_state
        self.obs_timestep_number = obs_timestep_number
        self.state_last_action = state_last_action
        self.state_timestep_number = state_timestep_number
        self.reward_sparse = reward_sparse
        self.reward_only_positive = reward_only_positive
        self.reward_death_value = reward_death_value
        self.reward_win = reward_win
        self.reward_defeat = reward_defeat
        self.reward_negative_scale = reward_negative_scale
        self.reward_scale = reward_scale
        self.reward_scale_rate = reward_scale_rate
        self.replay_dir = replay_dir
        self.replay_prefix = replay_prefix
        self.heuristic_ai = heuristic_ai
        self.heuristic_rest = heuristic_rest
        self.debug = debug

        self.n_actions_no_attack = views.TARGETS
        self.n_actions_move = 4
        # SMAC's own maps never have more agents than enemies where allies are targets too.
        targets = max(self.n_enemies, self.n_agents) if self.parameters.healers else self.n_enemies
        self.n_actions = self.n_actions_no_attack + targets
        self.unit_type_bits = self.parameters.unit_type_bits
        self.shield_bits_ally = int(self.parameters.a_race == "P")
        self.shield_bits_enemy = int(self.parameters.b_race == "P")
        bits = [f"type_{bit}" for bit in range(self.unit_type_bits)]
        self.ally_state_attr_names = [
            "health",
            "energy/cooldown",
            "rel_x",
            "rel_y",
            *["shield"] * self.shield_bits_ally,
            *bits,
        ]
        self.enemy_state_attr_names = ["health", "rel_x", "rel_y", *["shield"] * self.shield_bits_enemy, *bits]
        self.max_reward = self.n_enemies * reward_death_value + reward_win

        units = self.n_agents + self.n_enemies
        self._units = np.zeros((units, views.NUM_COLUMNS))
        self._before = np.zeros_like(self._units)
        self._dead = np.zeros(units, np.bool_)
        self._slots, self._tags = np.zeros(units, np.int64), np.zeros(units, np.int64)
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._available = np.zeros((self.n_agents, self.n_actions), np.int64)
        self._observations = np.zeros((self.n_agents, self.get_obs_size()), np.float32)
        self._state = np.zeros(0 if obs_instead_of_state else self.get_state_size(), np.float32)
        self._world: World | None = None
        # Of this episode, for the replay: game loop, actions [A] and the agents' places [A, 2].
        self._orders: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._episode_count = self._episode_steps = self._total_steps = 0
        self.battles_won = self.battles_game = self.timeouts = self.force_restarts = 0
        self.win_counted = self.defeat_counted = False
        self._targets: list[int | None] = [None] * self.n_agents
        self._renderer: Any = None
        self._window: Any = None

    # --- episodes -------------------------------------------------------------------------------------------------

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Starts the next episode; returns the agents' observations and the state."""
        self._episode_steps = 0
        self._orders.clear()
        if self._episode_count == 0:
            self._launch()
        else:
            self._restart()
        self._find_units()
        self.win_counted = self.defeat_counted = False
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._targets = [None] * self.n_agents
        self._dead[:] = False
        self._look()
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float, bool, dict[str, Any]]:
        """One step of all agents.

        Args:
            actions: one number an agent, inside `get_avail_actions`; dead agents take 0. With `heuristic_ai` the
                scripted policy's actions are written into it.

        Returns:
            (reward, terminated, info). `info` holds `battle_won`, `dead_allies` and `dead_enemies`; `episode_limit` is
            there where time was up and `continuing_episode` is set.

        Raises:
            ValueError: a wrong number of actions, or an illegal one.
            RuntimeError: before the first `reset`.
        """
        world = self._playing()
        chosen = self._checked(actions)
        self.last_action = np.eye(self.n_actions)[chosen]
        if self.heuristic_ai:
            chosen = self._scripted_actions()
            actions[:] = chosen.tolist()  # type: ignore[index]
        chosen[self._units[: self.n_agents, views.HEALTH] == 0.0] = views.NO_OP
        places = self._units[: self.n_agents, [views.X, views.Y]]
        self._orders.append((world.loop - self._first_loop, chosen, places))
        views.give_actions(world.context, self._slots, self._units, chosen, self._options)
        world.advance(self._step_mul)
        self._total_steps += 1
        self._episode_steps += 1

        self._read_units(world)
        ended = self._judge()
        reward: float = 0.0
        if not self.reward_sparse:
            reward = views.battle_reward(
                self._units,
                self._before,
                self._dead,
                self.n_agents,
                float(self.reward_death_value),
                float(self.reward_negative_scale),
                bool(self.reward_only_positive),
            )
        alive = self._units[:, views.HEALTH] > 0.0
        info: dict[str, Any] = {
            "battle_won": False,
            "dead_allies": self.n_agents - int(alive[: self.n_agents].sum()),
            "dead_enemies": self.n_enemies - int(alive[self.n_agents :].sum()),
        }
        terminated = ended is not None
        if terminated:
            self.battles_game += 1
            if ended == _WON and not self.win_counted:
                self.battles_won += 1
                self.win_counted = info["battle_won"] = True
                reward = 1.0 if self.reward_sparse else reward + self.reward_win
            elif ended == _LOST and not self.defeat_counted:
                self.defeat_counted = True
                reward = -1.0 if self.reward_sparse else reward + self.reward_defeat
        elif self._episode_steps >= self.episode_limit:
            terminated = True
            if self.continuing_episode:
                info["episode_limit"] = True
            self.battles_game += 1
            self.timeouts += 1
        self._episode_count += terminated
        if self.reward_scale:
            reward /= self.max_reward / self.reward_scale_rate
        self._look()
        if self.debug:
            _logger.debug("step %d: actions %s, reward %s", self._episode_steps, chosen.tolist(), reward)
        return reward, terminated, info

    def _launch(self) -> None:
        """A new game from the seed."""
        scenario = self.parameters.scenario
        races = {letter: race for race in RACES for letter in race[0].upper()}
        game_map = scenario_map(scenario)
        self._game_seed = secrets.randbits(31) if self._seed is None else self._seed
        self._world = World(
            game_map,
            {
                1: Player(race=races[self.parameters.a_race]),
                2: Player(race=races[self.parameters.b_race], difficulty=DIFFICULTIES[self.difficulty]),
            },
            seed=self._game_seed,
        )
        self._first_loop = self._game_episode = 0

    def _restart(self) -> None:
        """SMAC's way: all units are killed, and the map sets new ones up."""
        world = self._playing()
        for slot in world.alive_slots().tolist():
            world.kill(slot)
        self._game_episode += 1
        self._first_loop = world.loop
        world.advance(_RESTART_LOOPS)

    def _find_units(self) -> None:
        """Numbers the units: agents by type, x and y, enemies in the order in which the game lists them."""
        world = self._playing()
        state, kinds = world.state, world.kinds
        own, enemies = world.slots_of(1), world.slots_of(2)
        ui, uf = state.ui[0], state.uf[0]
        own.sort(key=lambda slot: (kinds.types[0, ui[slot, st.I_KIND]], uf[slot, st.F_X], uf[slot, st.F_Y]))
        self._slots[:] = own + enemies
        self._tags[:] = ui[self._slots, st.I_TAG] + world.tag_offset
        self._first_tag = world.tag_offset
        self._unit_types = [int(kinds.types[0, ui[slot, st.I_KIND]]) for slot in own] + [
            int(kinds.types[1, ui[slot, st.I_KIND]]) for slot in enemies
        ]
        names = [world.rules.entries[int(ui[slot, st.I_KIND])]["name"] for slot in own + enemies]
        self._options = self._make_options(world, names)
        # Twice: what the units were before the first step is what they are.
        for _ in range(2):
            self._read_units(world)
        if self._episode_count == 0:
            health = self._units[self.n_agents :, [views.HEALTH_MAX, views.SHIELD_MAX]]
            self.max_reward = self.n_enemies * self.reward_death_value + self.reward_win
            for most, shield in health.tolist():
                self.max_reward += most + shield

    def _make_options(self, world: World, types: list[str]) -> views.Options:
        """What the arrays are made of, for units of these types; the map in SMAC's orientation."""
        spec, (x0, y0, x1, y1) = world.map.spec, world.map.playable
        bits = [self.parameters.ally_bits[name] for name in types[: self.n_agents]]
        bits += [self.parameters.enemy_bits[name] for name in types[self.n_agents :]]
        start = start_raw(world, 1)
        free = np.unpackbits(np.frombuffer(start.pathing_grid.data, np.uint8)).reshape(spec.height, spec.width)
        return views.Options(
            agents=self.n_agents,
            actions=self.n_actions,
            bits=self.unit_type_bits,
            ally_shield=self.shield_bits_ally,
            enemy_shield=self.shield_bits_enemy,
            all_health=int(self.obs_all_health),
            own_health=int(self.obs_own_health),
            last_action=int(self.obs_last_action),
            pathing_grid=int(self.obs_pathing_grid),
            terrain_height=int(self.obs_terrain_height),
            timestep=int(self.obs_timestep_number),
            state_last_action=int(self.state_last_action),
            state_timestep=int(self.state_timestep_number),
            move=float(self._move_amount),
            width=spec.width,
            height=spec.height,
            span_x=float(int(np.ceil(x1)) - int(x0)),
            span_y=float(int(np.ceil(y1)) - int(y0)),
            pathing=np.ascontiguousarray(free.T != 0),
            # SMAC turns the rows of this picture upside down, not those of the pathing grid.
            terrain=np.ascontiguousarray(height_image(world)[::-1].T / 255),
            heals=np.array([name in self.parameters.healers for name in types]),
            type_bit=np.array(bits, np.int64),
            max_cooldown=np.array([MAX_COOLDOWN.get(name, OTHER_MAX_COOLDOWN) for name in types]),
            max_shield=np.array([MAX_SHIELD.get(name, 1.0) for name in types]),
        )

    def _read_units(self, world: World) -> None:
        views.read_units(world.context, self._slots, self._tags, world.tag_offset, self._before, self._units)

    def _judge(self) -> int | None:
        """How the battle ended, None if it goes on. A side of healers alone has lost."""
        alive = self._units[:, views.HEALTH] > 0.0
        own, enemy = alive[: self.n_agents], alive[self.n_agents :]
        heals = self._options.heals
        fights = bool((own & ~heals[: self.n_agents]).any()) if self.parameters.healers else bool(own.any())
        if (not own.any() and enemy.any()) or (self.parameters.healers and not fights):
            return _LOST
        left = np.flatnonzero(enemy)
        if own.any() and (not len(left) or (len(left) == 1 and heals[self.n_agents + left[0]])):
            return _WON
        return _DRAWN if not own.any() and not len(left) else None

    def _look(self) -> None:
        """Available actions, observations and state of this moment."""
        progress = self._episode_steps / self.episode_limit
        views.write_available(self._units, self._options, self._available)
        views.write_observations(
            self._units, self._options, self._available, self.last_action, progress, self._observations
        )
        if not self.obs_instead_of_state:
            views.write_state(self._units, self._options, self.last_action, progress, self._state)

    def _playing(self) -> World:
        if self._world is None:
            raise RuntimeError("the environment has not started; call reset first")
        return self._world

    def _checked(self, actions: Sequence[int]) -> np.ndarray:
        chosen = np.array([int(action) for action in actions], np.int64)
        if chosen.shape != (self.n_agents,):
            raise ValueError(f"{len(chosen)} actions for {self.n_agents} agents of {self.map_name}; give one for each")
        inside = (chosen >= 0) & (chosen < self.n_actions)
        legal = inside & (self._available[np.arange(self.n_agents), np.where(inside, chosen, 0)] == 1)
        if not self.heuristic_ai and not legal.all():
            agent = int(np.flatnonzero(~legal)[0])
            able = np.flatnonzero(self._available[agent]).tolist()
            raise ValueError(f"agent {agent} cannot take action {chosen[agent]}; legal now: {able}")
        return np.where(inside, chosen, 0)

    # --- SMAC's scripted policy -----------------------------------------------------------------------------------

    def _scripted_actions(self) -> np.ndarray:
        """Actions [A]: every unit attacks the nearest enemy until it is dead; healers heal the nearest wounded ally."""
        units, chosen = self._units, np.zeros(self.n_agents, np.int64)
        for agent in range(self.n_agents):
            target = self._targets[agent] = self._scripted_target(agent)
            if target is None:
                continue
            chosen[agent] = views.TARGETS + target
            if self.heuristic_rest and not self._available[agent, chosen[agent]]:
                other = target if self._options.heals[agent] else self.n_agents + target
                dx, dy = units[other, : views.HEALTH] - units[agent, : views.HEALTH]
                if abs(dx) > abs(dy):
                    chosen[agent] = views.EAST if dx > 0 else views.WEST
                else:
                    chosen[agent] = views.NORTH if dy > 0 else views.SOUTH
        return chosen

    def _scripted_target(self, agent: int) -> int | None:
        """The number of the ally that a healer heals, or of the enemy that another unit attacks."""
        units, heals = self._units, self._options.heals
        first, last = (0, self.n_agents) if heals[agent] else (self.n_agents, len(units))

        def wanted(number: int) -> bool:
            health, most = units[number, [views.HEALTH, views.HEALTH_MAX]]
            return bool(health != 0.0 and not (heals[agent] and health == most))

        before = self._targets[agent]
        if before is not None and wanted(first + before):
            return before
        best, nearest = None, float(np.hypot(self._options.span_x, self._options.span_y))
        for other in range(first, last):
            if wanted(other) and not (heals[agent] and heals[other]):
                distance = float(np.hypot(*(units[other, : views.HEALTH] - units[agent, : views.HEALTH])))
                if distance < nearest:
                    best, nearest = other - first, distance
        return best

    # --- what agents see ------------------------------------------------------------------------------------------

    def get_obs(self) -> list[np.ndarray]:
        """Observations of all agents, each float32 [obs]."""
        return list(self._observations.copy())

    def get_obs_agent(self, agent_id: int) -> np.ndarray:
        """One agent's observation, float32 [obs]; zero once it is dead."""
        return self._observations[agent_id].copy()

    def get_state(self) -> np.ndarray:
        """The global state, float32 [state], for centralised training."""
        return self._observations.reshape(-1).copy() if self.obs_instead_of_state else self._state.copy()

    def get_avail_actions(self) -> list[list[int]]:
        """1 for each legal action of each agent: A lists of n_actions."""
        return self._available.tolist()

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """1 for each legal action of an agent."""
        return self._available[agent_id].tolist()

    def get_visibility_matrix(self) -> np.ndarray:
        """bool [A, A + E]: which units each agent has within its sight range."""
        alive = self._units[:, views.HEALTH] > 0.0
        places = self._units[:, : views.HEALTH]
        apart = np.hypot(*(places[: self.n_agents, None] - places[None]).transpose(2, 0, 1))
        seen = (apart < views.SIGHT_RANGE) & alive[: self.n_agents, None] & alive[None]
        seen[np.arange(self.n_agents), np.arange(self.n_agents)] = False
        return seen

    def get_unit_types(self) -> list[int] | None:
        """Type ids of the agents, then of the enemies; None before the first `reset`."""
        return None if self._world is None else list(self._unit_types)

    # --- sizes ----------------------------------------------------------------------------------------------------

    def get_total_actions(self) -> int:
        """n_actions: the actions that an agent may ever have."""
        return self.n_actions

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """(enemies, numbers of each) in an observation."""
        return self.n_enemies, 4 + self.unit_type_bits + self.obs_all_health * (1 + self.shield_bits_enemy)

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """(other agents, numbers of each) in an observation."""
        size = 4 + self.unit_type_bits + self.obs_all_health * (1 + self.shield_bits_ally)
        return self.n_agents - 1, size + self.obs_last_action * self.n_actions

    def get_obs_own_feats_size(self) -> int:
        """Numbers of the agent itself in an observation, the time among them."""
        own = self.unit_type_bits + self.obs_own_health * (1 + self.shield_bits_ally)
        return own + self.obs_timestep_number

    def get_obs_move_feats_size(self) -> int:
        """Numbers of the ways an agent can go in an observation."""
        pathing = self.obs_pathing_grid * views.PATHING_POINTS
        return self.n_actions_move + pathing + self.obs_terrain_height * views.HEIGHT_POINTS

    def get_obs_size(self) -> int:
        """Length of an observation."""
        enemies, enemy_size = self.get_obs_enemy_feats_size()
        allies, ally_size = self.get_obs_ally_feats_size()
        return (
            self.get_obs_move_feats_size() + enemies * enemy_size + allies * ally_size + self.get_obs_own_feats_size()
        )

    def get_state_size(self) -> int:
        """Length of the global state."""
        if self.obs_instead_of_state:
            return self.get_obs_size() * self.n_agents
        size = self.n_agents * len(self.ally_state_attr_names) + self.n_enemies * len(self.enemy_state_attr_names)
        return size + self.state_last_action * self.n_agents * self.n_actions + self.state_timestep_number

    def get_env_info(self) -> dict[str, Any]:
        """Sizes, for those who build networks and buffers."""
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": self.ally_state_attr_names,
            "enemy_features": self.enemy_state_attr_names,
        }

    def get_stats(self) -> dict[str, float]:
        """Battles so far; `win_rate` is 0 before the first one ends."""
        return {
            "battles_won": self.battles_won,
            "battles_game": self.battles_game,
            "battles_draw": self.timeouts,
            "win_rate": self.battles_won / max(self.battles_game, 1),
            "timeouts": self.timeouts,
            "restarts": self.force_restarts,
        }

    # --- around it ------------------------------------------------------------------------------------------------

    def seed(self, seed: int | None = None) -> int | None:
        """The seed of the game. With a number: the next `reset` starts a new game with it."""
        if seed is not None:
            self._seed, self._episode_count = seed, 0
        return self._seed

    def render(self, mode: str = "human") -> np.ndarray | None:
        """A picture of this moment: uint8 [height, width, 3] for "rgb_array", else a window (needs pygame).

        Raises:
            ValueError: an unknown mode.
            RuntimeError: before `reset`, or pygame is not installed.
        """
        if mode not in ("human", "rgb_array"):
            raise ValueError(f"mode is {mode!r}; expected human or rgb_array")
        world = self._playing()
        if self._renderer is None:
            from envs.render.pictures import Renderer

            self._renderer = Renderer(self.parameters.scenario, world.rules)
        units = np.zeros((world.state.i.shape[2], NUM_FRAME_COLUMNS), np.float32)
        driver.record_frame(world.context, 0, units)
        picture = self._renderer.draw(Frame(units, world.loop, 0.0))
        if mode == "rgb_array":
            return picture
        if self._window is None:
            from envs.render.window import Window

            self._window = Window(self.map_name)
        self._window.show(picture)
        return None

    def save_replay(self) -> str:
        """Writes the episode so far as a replay that the protocol server plays back; returns its path."""
        world = self._playing()
        replay = Replay(
            map_path=world.map.path,
            map_data=b"",
            seed=self._game_seed,
            disable_fog=False,
            players={n: {"race": p.race, "difficulty": p.difficulty} for n, p in world.players.items()},
            names={1: self.map_name},
            actions=[
                (loop, 1, "action", action.SerializeToString())
                for loop, chosen, places in self._orders
                for action in self._commands(chosen, places)
            ],
            loops=world.loop - self._first_loop,
            episode=self._game_episode,
        )
        name = f"{self.replay_prefix or self.map_name}_{time.strftime('%Y-%m-%d-%H-%M-%S')}.SC2Replay"
        path = Path(self.replay_dir or ".").absolute() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(replay.to_bytes())
        return str(path)

    def _commands(self, chosen: np.ndarray, places: np.ndarray) -> Iterator[sc2api_pb2.Action]:
        """The protocol's actions for chosen [A] of agents at places [A, 2]."""
        tags = (((self._slots + 1) << TAG_SHIFT) | (self._tags - self._first_tag)).tolist()
        for agent, number in enumerate(chosen.tolist()):
            if number == views.NO_OP:
                continue
            heals = bool(self._options.heals[agent])
            name = "stop" if number == views.STOP else "move" if number < views.TARGETS else "attack"
            command = raw_pb2.ActionRawUnitCommand(unit_tags=[tags[agent]])
            command.ability_id = ABILITIES["heal" if heals and name == "attack" else name]
            if name == "move":
                dx, dy = _WAYS[number]
                command.target_world_space_pos.x = places[agent, 0] + dx * self._move_amount
                command.target_world_space_pos.y = places[agent, 1] + dy * self._move_amount
            elif name == "attack":
                command.target_unit_tag = tags[number - views.TARGETS + (0 if heals else self.n_agents)]
            yield sc2api_pb2.Action(action_raw=raw_pb2.ActionRaw(unit_command=command))

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None
