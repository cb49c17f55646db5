"""The natively batched environment: many battles, one compiled call a step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.actions import ACTION_VIEWS, NUM_FUNCTIONS, NUM_ORDERS, POINT_GRID
from envs.engine.state.layout import W_LOOP
from envs.engine.state.worlds import new_state
from envs.rules.opponents import opponent_id
from envs.runtime import driver
from envs.runtime.first_use import compile_together
from envs.runtime.stepping import Stepper
from envs.runtime.threads import ThreadPool
from envs.scenarios.choices import OPPONENTS
from envs.scenarios.compiled import (
    E_EPISODE,
    E_ILLEGAL,
    E_NEXT_OPPONENT,
    E_SEED,
    EF_SCORE,
    P_OWN,
    P_ROWS,
    P_TEAM_2_END,
    Action,
    Output,
    StepResult,
    new_episode,
)
from envs.scenarios.compiler import compile_scenario, scenario_rules
from envs.scenarios.scenario import Scenario, load_scenario
from envs.scenarios.smac import smac_sizes
from envs.views.frames import NUM_FRAME_COLUMNS, Frame
from envs.views.observation import NUM_FEATURES, NUM_SCALARS

OBSERVATION_VIEWS = ("entities", "smac", "both")
ILLEGAL_ACTIONS = ("no_op", "error")
_MAX_SEED = 2**62


class SC2VectorEnv(VectorEnv):
    """`num_envs` worlds of one scenario, stepped together; a finished world starts anew in the same step.

    With one agent, every array has the leading axis B = `num_envs`. With `players=2` both sides are agents: a player
    axis P = 2 follows B in observations, actions and rewards. World `b` after `reset(seed=s)` plays exactly what a
    single environment plays after `reset(seed=s + b)`, whatever the batch and the number of threads.

    Args:
        scenario: a built-in scenario's name, the path of a scenario file, or a `Scenario`.
        num_envs: B.
        seed: seed of the first `reset` without one; None draws one from the system.
        players: 1, or 2 for two agents.
        action_view: "unit", "smac" or "function" (`envs.actions`).
        observation_view: "entities", "smac" (`agent_obs` and `state` in SMAC's layout) or "both".
        opponent: scripted policy of the other side (`envs.rules.opponents.OPPONENTS`); None: the scenario's. Ignored
            with two agents.
        illegal_actions: "no_op" lets a unit with an illegal action do nothing and counts it in
            `info["illegal_actions"]`; "error" raises a ValueError before any world changes.
        num_threads: worlds are shared out among this many threads.
        copy: False returns views of two alternating sets of arrays: an observation, and those in `final_obs`, then
            stay valid until the second next step.
        render_mode: "rgb_array" (`render` gives the first world's last frame) or "rgb_array_list" (its frames since the
            last `render`, one a game loop).
    """

    metadata = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array", "rgb_array_list"],
        "render_fps": 16,
    }
    _thread_pool: ThreadPool | None = None  # there also when an environment is refused half-made

    def __init__(
        self,
        scenario: str | Path | Scenario = "3m",
        num_envs: int = 1,
        *,
        seed: int | None = None,
        players: int = 1,
        action_view: str = "unit",
        observation_view: str = "entities",
        opponent: str | int | None = None,
        illegal_actions: str = "no_op",
        num_threads: int = 1,
        copy: bool = True,
        render_mode: str | None = None,
        _autoreset: bool = True,
    ):
        self.scenario = load_scenario(scenario)
        for name, number in (("num_envs", num_envs), ("num_threads", num_threads)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
                raise ValueError(f"{name} is {number!r}; expected a whole number of at least 1")
        if players not in (1, 2):
            raise ValueError(f"players is {players!r}; expected 1, or 2 when both sides are agents")
        if players == 2 and self.scenario.rules != "battle":
            raise ValueError(f"players is 2, but {self.scenario.name} is a mini-game for one player")
        _check_choice("action_view", action_view, ACTION_VIEWS)
        _check_choice("observation_view", observation_view, OBSERVATION_VIEWS)
        _check_choice("illegal_actions", illegal_actions, ILLEGAL_ACTIONS)
        if render_mode is not None:
            _check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.num_envs = int(num_envs)
        self.players = players
        self.action_view = action_view
        self.observation_view = observation_view
        self.illegal_actions = illegal_actions
        self.num_threads = min(int(num_threads), self.num_envs)
        self.copy = copy
        self.render_mode = render_mode
        self._seed = seed
        self._started = False
        self._renderer: Any = None
        self._frames: list[Any] = []

        self.rules = scenario_rules(self.scenario)
        self.compiled = compile_scenario(self.scenario, self.rules, agents=players, autoreset=_autoreset)
        self.num_units = int(self.compiled.i[P_OWN])
        self.num_entities = int(self.compiled.i[P_ROWS])
        policy = opponent_id(self.scenario.teams[1].opponent if opponent is None else opponent)
        self._make_arrays(policy)
        self._choose_phases()

        self.single_observation_space = self._observation_space()
        self.single_action_space = self._action_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _make_arrays(self, policy: int) -> None:
        """The worlds, and what goes in and out; `policy` is the number of the opponent's."""
        slots = int(self.compiled.i[P_TEAM_2_END])
        b, p, u = self.num_envs, self.players, self.num_units
        self.state = new_state(self.rules.static, b, slots)
        self.episode = new_episode(b, slots, p, u)
        self.episode.i[:, E_NEXT_OPPONENT] = policy
        structured = self.action_view == "function"
        self.action = Action(
            order=np.zeros((b, p, 0 if structured else u), np.int64),
            target=np.zeros((b, p, u if self.action_view == "unit" else 0), np.int64),
            function=np.zeros((b, p, 4 if structured else 0), np.int64),
            selected=np.zeros((b, p, u if structured else 0), np.bool_),
        )
        self._outputs = [self._new_output(), self._new_output()]
        self._final = [self._new_output(), self._new_output()]
        self._turn = 0
        self._result = StepResult(np.zeros((b, p)), np.zeros(b, np.bool_), np.zeros(b, np.bool_))
        self._restart = np.zeros(b, np.bool_)
        self._found = np.zeros(4, np.int64)
        self._context = driver.make_context(
            self.state, self.rules.static, self.compiled, self.episode, self.action, self._result, self._restart
        )
        self._output_views = [self._views(out) for out in self._outputs]
        self._final_views = [self._views(out) for out in self._final]
        self._output_refs = driver.make_output(self._outputs[0]), driver.make_output(self._outputs[1])
        self._final_refs = driver.make_output(self._final[0]), driver.make_output(self._final[1])

    def _choose_phases(self) -> None:
        """The phases of a step in these views; `Stepper` compiles them with the first step."""
        self._command = {
            "unit": driver.command_units,
            "smac": driver.command_smac,
            "function": driver.command_functions,
        }[self.action_view]
        battle = self.scenario.rules == "battle"
        self._advance = driver.advance_battles if battle else driver.advance_games
        self._start: Any = driver.start_battles if battle else driver.start_games
        self._observers: list[Any] = [
            {
                "unit": driver.observe_unit_masks,
                "smac": driver.observe_smac_mask,
                "function": driver.observe_function_masks,
            }[self.action_view]
        ]
        if self.observation_view != "smac":
            self._observers.append(driver.observe_entities)
        if self.observation_view != "entities":
            self._observers.append(driver.observe_smac)
        self._stepper: Stepper | None = None

    # --- spaces ---------------------------------------------------------------------------------------------

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and type, per world and player, of the arrays of `Output` that are in use."""
        n, u = self.num_entities, self.num_units
        shapes: dict[str, tuple[tuple[int, ...], type]] = {}
        if self.observation_view != "smac":
            shapes["entities"] = ((n, NUM_FEATURES), np.float32)
            shapes["mask"] = ((n,), np.bool_)
            shapes["scalars"] = ((NUM_SCALARS,), np.float32)
        sizes = smac_sizes(self.scenario, self.players)
        if self.action_view == "unit":
            shapes["order_mask"] = ((u, NUM_ORDERS), np.bool_)
            shapes["target_mask"] = ((u, 3, n), np.bool_)
        elif self.action_view == "smac":
            shapes["action_mask"] = ((u, sizes.n_actions), np.bool_)
        else:
            shapes["function_mask"] = ((NUM_FUNCTIONS,), np.bool_)
            shapes["selected_mask"] = ((NUM_FUNCTIONS, u), np.bool_)
            shapes["target_unit_mask"] = ((NUM_FUNCTIONS, n), np.bool_)
        if self.observation_view != "entities":
            shapes["agent_obs"] = ((u, sizes.observation), np.float32)
            shapes["state"] = ((sizes.state,), np.float32)
        return shapes

    def _new_output(self) -> Output:
        ranks = {"mask": 1, "scalars": 1, "function_mask": 1, "state": 1, "target_mask": 3}
        types = {"entities": np.float32, "scalars": np.float32, "agent_obs": np.float32, "state": np.float32}
        used = self._shapes()
        arrays: dict[str, np.ndarray] = {}
        for name in Output._fields:
            shape, dtype = used.get(name, ((0,) * ranks.get(name, 2), types.get(name, np.bool_)))
            arrays[name] = np.zeros((self.num_envs, self.players, *shape), dtype)
        return Output(**arrays)

    def _observation_space(self) -> spaces.Dict:
        lead = (2,) if self.players == 2 else ()
        result: dict[str, spaces.Space] = {}
        for name, (shape, dtype) in self._shapes().items():
            if dtype == np.bool_:
                result[name] = spaces.Box(0, 1, (*lead, *shape), np.bool_)  # type: ignore[arg-type]
            else:
                result[name] = spaces.Box(-np.inf, np.inf, (*lead, *shape), np.float32)
        return spaces.Dict(result)

    def _action_space(self) -> spaces.Space:
        shape = (2, self.num_units) if self.players == 2 else (self.num_units,)

        def choices(count: int, shape: tuple[int, ...] = shape) -> spaces.MultiDiscrete:
            return spaces.MultiDiscrete(np.full(shape, count))

        if self.action_view == "unit":
            return spaces.Dict({"order": choices(NUM_ORDERS), "target": choices(self.num_entities)})
        if self.action_view == "smac":
            return choices(smac_sizes(self.scenario, self.players).n_actions)
        counts = {
            "function": NUM_FUNCTIONS,
            "queued": 2,
            "target_unit": self.num_entities,
            "target_point": POINT_GRID**2,
        }
        parts: dict[str, spaces.Space] = {
            name: choices(count, (2,)) if self.players == 2 else spaces.Discrete(count)
            for name, count in counts.items()
        }
        parts["selected"] = spaces.MultiBinary(shape)
        return spaces.Dict(parts)

    # --- the Gymnasium interface ----------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: world `b` gets `seed + b` (or `seed[b]`); None goes on with each world's own sequence of episodes.
            options: {"reset_mask": bool [B]} resets the worlds with True only.

        Returns:
            (observation, info)
        """
        options = options or {}
        unknown = set(options) - {"reset_mask"}
        if unknown:
            raise ValueError(f"unknown reset options {sorted(unknown)}; known: reset_mask")
        mask = np.ones(self.num_envs, np.bool_)
        if "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
                raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},) with a True in it")
            if not self._started:
                raise ValueError("reset_mask given before the first reset; reset all worlds first")
        seeds = np.full(self.num_envs, -1, np.int64)
        if seed is None and not self._started:
            seed = self._seed if self._seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(seed, int | np.integer):
            _check_seed(int(seed))
            seeds[:] = int(seed) + np.arange(self.num_envs)
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise ValueError(f"seed has {len(seed)} entries for {self.num_envs} worlds")
            for b, one in enumerate(seed):
                if one is not None:
                    _check_seed(int(one))
                    seeds[b] = one
                elif not self._started:
                    seeds[b] = int(np.random.SeedSequence().generate_state(1)[0])
        if not self._started:
            self._compile()
        self._turn = 1 - self._turn
        out = self._outputs[self._turn]
        if not mask.all():
            for new, old in zip(out, self._outputs[1 - self._turn], strict=True):
                new[...] = old
        ei = self.episode.i
        ei[seeds >= 0, E_SEED] = seeds[seeds >= 0]
        ei[seeds >= 0, E_EPISODE] = 0
        ei[mask, E_ILLEGAL] = 0
        self._restart[:] = mask
        self._start(self._context, 0, self.num_envs)
        driver.open_episodes(self._context, 0, self.num_envs)
        for observer in self._observers:
            observer(self._context, self._output_refs[self._turn], True, 0, self.num_envs)
        self._started = True
        if self.render_mode is not None and mask[0]:
            self._frames.clear()
            self._record()
        return self._handed_out(self._output_views), {}

    def step(self, actions: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of `scenario.step_mul` game loops in every world.

        Returns:
            (observation, reward float64 [B] or [B, 2], terminated bool [B], truncated bool [B], info). Where an episode
            ended, the observation is the next episode's first, `info["final_obs"][b]` the ended one's last (masked by
            `info["_final_obs"]`), and `info["final_info"]` holds `battle_won`, `score` and `episode_length`.

        Raises:
            ValueError: an action of the wrong shape, with NaN, or (with `illegal_actions="error"`) an illegal one.
        """
        if not self._started:
            raise RuntimeError("step before reset; call reset first")
        self._take(actions)
        if self.illegal_actions == "error":
            self._refuse_illegal()
        self._turn = 1 - self._turn
        self._step_worlds()
        result = self._result
        infos: dict[str, Any] = {
            "illegal_actions": self.episode.i[:, E_ILLEGAL].copy(),
            "_illegal_actions": np.ones(self.num_envs, np.bool_),
        }
        infos.update(self._final_infos())
        reward = result.reward if self.players == 2 else result.reward[:, 0]
        observation = self._handed_out(self._output_views)
        return observation, reward.copy(), result.terminated.copy(), result.truncated.copy(), infos

    def _step_worlds(self) -> None:
        """One step of all worlds, from `self.action` into this turn's outputs and `self._result`."""
        if self.render_mode is not None:
            self._step_recorded()
            return
        if self._stepper is None:
            self._stepper = Stepper(
                self._context,
                self.num_envs,
                self._output_refs,
                self._final_refs,
                loops=self.scenario.step_mul,
                threads=self.num_threads,
                command=self._command,
                oppose=driver.command_opponents if self.players == 1 else None,
                advance=self._advance,
                score=driver.score_worlds,
                start=self._start,
                begin=driver.open_episodes,
                observers=self._observers,
            )
        self._stepper.step(self._turn, self.thread_pool if self.num_threads > 1 else None)

    def _compile(self) -> None:
        """Compiles the phases of a step, or loads them from disk."""
        phases = [self._start, driver.open_episodes, self._command, driver.score_worlds]
        if self.players == 1:
            phases.append(driver.command_opponents)
        compilers = [partial(phase.address, self._context, 0, 0) for phase in phases]
        out = self._output_refs[0]
        compilers += [partial(observer.address, self._context, out, False, 0, 0) for observer in self._observers]
        scenario = "3m" if self.scenario.rules == "battle" else "MoveToBeacon"
        code = f"from {__name__} import SC2VectorEnv; SC2VectorEnv({scenario!r}).compile_game_loops()"
        compile_together(compilers, self.compile_game_loops, code)

    def compile_game_loops(self) -> None:
        """Compiles the kernel that takes longest, or loads it from disk; it is the same for all scenarios with the
        same rules."""
        self._advance.address(self._context, 0, 0, 0)

    @property
    def thread_pool(self) -> ThreadPool:
        """The threads that help the caller's."""
        if self._thread_pool is None:
            self._thread_pool = ThreadPool(self.num_threads - 1)
        return self._thread_pool

    def _step_recorded(self) -> None:
        """As `_step_worlds`, phase by phase and in one thread, with the first world's frames kept for `render`."""
        context, worlds = self._context, (0, self.num_envs)
        self._command(context, *worlds)
        if self.players == 1:
            driver.command_opponents(context, *worlds)
        for _ in range(self.scenario.step_mul):
            self._advance(context, 1, *worlds)
            self._record()
        driver.score_worlds(context, *worlds)
        if self._restart.any():
            for observer in self._observers:
                observer(context, self._final_refs[self._turn], True, *worlds)
            self._start(context, *worlds)
            driver.open_episodes(context, *worlds)
            if self._restart[0]:
                self._record()
        for observer in self._observers:
            observer(context, self._output_refs[self._turn], False, *worlds)

    def render(self) -> tuple[Any, ...] | None:
        """The first world's frame (or list of frames), in a tuple as Gymnasium's vector environments return it."""
        if self.render_mode is None:
            return None
        if not self._frames:
            raise RuntimeError("render before reset; call reset first")
        if self.render_mode == "rgb_array":
            return (self.renderer.draw(self._frames[-1]),)
        return ([self.renderer.draw(frame) for frame in self.recorded_frames()],)

    def close_extras(self, **kwargs: Any) -> None:
        if self._thread_pool is not None:
            self._thread_pool.close()
            self._thread_pool = None

    # --- beyond Gymnasium -----------------------------------------------------------------------------------

    @property
    def renderer(self) -> Any:
        """Draws frames of this scenario (`envs.render.pictures.Renderer`)."""
        if self._renderer is None:
            from envs.render.pictures import Renderer

            self._renderer = Renderer(self.scenario, self.rules)
        return self._renderer

    def recorded_frames(self) -> list[Any]:
        """Takes the first world's recorded moments (`envs.views.frames.Frame`) that `render` would draw.

        The last one stays."""
        frames, self._frames = self._frames, self._frames[-1:]
        return frames

    @property
    def final_observation(self) -> dict[str, np.ndarray]:
        """Last observations of the worlds that ended in the last step, batched [B, ...]. Other worlds' rows are
        stale."""
        return self._handed_out(self._final_views)

    @property
    def work_space(self) -> tuple[np.ndarray, ...]:
        """Arrays that no step takes anything from that an earlier one has left: a saved state does without them."""
        state, episode = self.state, self.episode
        return state.near_f, state.near_i, state.cells, state.search, episode.foes, episode.foe_at

    def add_batch_axis(self, action: Any) -> Any:
        """The action of a single world as a batch of one."""
        if isinstance(action, dict):
            return {name: np.asarray(value)[None] for name, value in action.items()}
        return np.asarray(action)[None]

    def set_opponents(self, opponents: Sequence[str | int] | np.ndarray) -> None:
        """Sets each world's scripted opponent, by name or number [B]; takes effect at the world's next reset."""
        numbers = [opponent_id(opponent) for opponent in opponents]
        if len(numbers) != self.num_envs:
            raise ValueError(f"opponents has {len(numbers)} entries for {self.num_envs} worlds")
        self.episode.i[:, E_NEXT_OPPONENT] = numbers

    def scripted_action(self, name: str, player: int = 0) -> Any:
        """The actions of a scripted policy for `player` in this view, inside the masks; the other player's stay as they
        are."""
        if player not in range(self.players):
            raise ValueError(f"player is {player!r}; expected 0 to {self.players - 1}")
        policy = opponent_id(name)
        if OPPONENTS[policy] == "attack-wave":
            policy = OPPONENTS.index("attack-move")
        view = ACTION_VIEWS.index(self.action_view)
        driver.write_scripted_actions(self._context, view, player, policy, 0, self.num_envs)
        action = self.action
        chosen = slice(None) if self.players == 2 else 0
        if self.action_view == "smac":
            return action.order[:, chosen].copy()
        if self.action_view == "unit":
            return {"order": action.order[:, chosen].copy(), "target": action.target[:, chosen].copy()}
        function = action.function[:, chosen]
        names = ("function", "queued", "target_unit", "target_point")
        result = {name: function[..., index].copy() for index, name in enumerate(names)}
        result["selected"] = action.selected[:, chosen].astype(np.int8)
        return result

    # --- inside ---------------------------------------------------------------------------------------------

    def _views(self, out: Output) -> dict[str, np.ndarray]:
        """The arrays of the observation space, in its order, for one player without the players' dimension."""
        arrays = {name: getattr(out, name) for name in sorted(self._shapes())}
        return arrays if self.players == 2 else {name: array[:, 0] for name, array in arrays.items()}

    def _handed_out(self, views: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """This turn's views, or copies of them."""
        arrays = views[self._turn]
        return {name: array.copy() for name, array in arrays.items()} if self.copy else arrays.copy()

    def _final_infos(self) -> dict[str, Any]:
        """The infos of the episodes that have just ended; empty if none has."""
        worlds = self.num_envs
        done, ended = np.empty(worlds, np.bool_), np.empty(worlds, np.int64)
        won, score, length = np.empty((worlds, 2), np.bool_), np.empty(worlds), np.empty(worlds, np.int64)
        count = driver.list_ended(self._context, done, ended, won, score, length)
        if count == 0:
            return {}
        worlds_that_ended = ended[:count]
        arrays = self._final_views[self._turn]
        if self.copy:
            arrays = {name: array[worlds_that_ended] for name, array in arrays.items()}
        final_obs = np.empty(worlds, dtype=object)  # of None
        for place, b in enumerate(worlds_that_ended.tolist()):
            row = place if self.copy else b
            # A plain loop takes half as long as a comprehension, and many worlds of few units end in a step.
            final_obs[b] = last = {}
            for name, array in arrays.items():
                last[name] = array[row]
        info = {"battle_won": won if self.players == 2 else won[:, 0], "score": score, "episode_length": length}
        for name in list(info):
            info[f"_{name}"] = done
        return {"final_obs": final_obs, "_final_obs": done, "final_info": info, "_final_info": done}

    def _take(self, actions: Any) -> None:
        """Copies the actions into the environment's own memory, with shape and type checked."""
        lead = (self.num_envs, 2) if self.players == 2 else (self.num_envs,)
        units = (*lead, self.num_units)
        view = self.action_view
        if view == "smac":
            self.action.order[...] = _integers("action", actions, units).reshape(self.action.order.shape)
            return
        expected = set(self.single_action_space.spaces)  # type: ignore[attr-defined]
        if not isinstance(actions, dict) or set(actions) != expected:
            got = f"keys {sorted(actions)}" if isinstance(actions, dict) else type(actions).__name__
            raise ValueError(f"actions of the {view!r} view are a dict with keys {sorted(expected)}; got {got}")
        if view == "unit":
            self.action.order[...] = _integers("order", actions["order"], units).reshape(self.action.order.shape)
            self.action.target[...] = _integers("target", actions["target"], units).reshape(self.action.target.shape)
            return
        for index, name in enumerate(("function", "queued", "target_unit", "target_point")):
            values = _integers(name, actions[name], lead)
            self.action.function[..., index] = values.reshape(self.num_envs, self.players)
        selected = _integers("selected", actions["selected"], units)
        if ((selected != 0) & (selected != 1)).any():
            raise ValueError("selected holds values other than 0 and 1")
        self.action.selected[...] = selected.reshape(self.action.selected.shape)

    def _refuse_illegal(self) -> None:
        if self.action_view == "function":
            driver.find_illegal_functions(self._context, self._found)
        else:
            view = ACTION_VIEWS.index(self.action_view)
            driver.find_illegal_units(self._context, view, self._found)
        world, player, unit, order = self._found.tolist()
        if world >= 0:
            where = f"world {world}, player {player}" + ("" if unit < 0 else f", unit slot {unit}")
            raise ValueError(
                f"illegal action in {where}: {_action_name(self.action_view, order)}; choose inside the masks"
            )

    def _record(self) -> None:
        """Keeps the first world's frame for `render`; the last one only, unless frames are to be listed."""
        units = np.zeros((self.state.i.shape[2], NUM_FRAME_COLUMNS), np.float32)
        driver.record_frame(self._context, 0, units)
        frame = Frame(units, int(self.state.w[0, W_LOOP]), float(self.episode.f[0, EF_SCORE]))
        if self.render_mode == "rgb_array":
            self._frames.clear()
        self._frames.append(frame)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < _MAX_SEED:
        raise ValueError(f"seed is {seed}; expected 0 to 2**62 - 1")


def _integers(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An integer array of the shape; floats are accepted if they are whole numbers."""
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
    if array.dtype.kind in "iub":
        return array
    if array.dtype.kind != "f":
        raise ValueError(f"{name} has type {array.dtype}; expected whole numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values; expected whole numbers")
    if (array != np.trunc(array)).any():
        raise ValueError(f"{name} holds fractions; expected whole numbers")
    return array.astype(np.int64)


def _action_name(view: str, order: int) -> str:
    from envs.actions import FUNCTIONS, UNIT_ORDERS

    if view == "unit" and 0 <= order < NUM_ORDERS:
        return f"order {order} ({UNIT_ORDERS[order]}) or its target"
    if view == "function" and 0 <= order < NUM_FUNCTIONS:
        return f"function {order} ({FUNCTIONS[order].name}), its selection or its target"
    return f"action {order}"
