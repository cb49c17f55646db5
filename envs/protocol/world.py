"""One game on the engine as the protocol sees it: tags, type ids, scores, results, computer opponents."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from s2clientprotocol import common_pb2, raw_pb2

from envs.economy.placement import grid_place
from envs.economy.production import cancel_training
from envs.economy.supply import count_supply
from envs.economy.tables import (
    B_COLLECTED_MINERALS,
    B_COLLECTED_VESPENE,
    B_MINERALS,
    E_QUEUE,
    E_QUEUED,
    E_RALLY,
    E_RALLY_SLOT,
    E_RALLY_TAG,
    E_TAG,
    E_UNFINISHED,
    EF_PROGRESS,
    EF_RALLY_X,
    EF_RALLY_Y,
    GAS,
    HALL,
    RALLY_POINT,
    RALLY_UNIT,
    WORKER,
    X_ABILITY,
    X_PROVIDES,
    X_ROLE,
    X_TIME,
    new_economy,
    no_economy,
)
from envs.economy.tech import make_tech
from envs.economy.units import reset_economy
from envs.engine.state import layout as st
from envs.engine.state.maps import MapSpec
from envs.engine.state.orders import issue_order
from envs.engine.state.units import create_unit, create_unit_in, kill_unit
from envs.engine.state.worlds import new_state, random_uniform, reset_world
from envs.engine.vision import update_vision
from envs.protocol.kinds import WORKERS, Kinds
from envs.protocol.maps import EconomyGame, GameMap
from envs.protocol.spells import Spells, hallucinated_units, make_illusory
from envs.protocol.tables import (
    BYTES_PER_UNIT,
    IN_ARMY,
    IN_ECONOMY,
    IN_TECHNOLOGY,
    NUM_CATEGORIES,
    PREFIX_BYTES,
    ROLE_ARMY,
    ROLE_WORKER,
    TAG_MASK,
    TAG_SHIFT,
    UnitTables,
    advance_bases,
    list_gone,
    make_tables,
    note_tags,
)
from envs.protocol.wire import header, wrap
from envs.rules.opponents import opponent_id
from envs.runtime import driver
from envs.scenarios.compiled import (
    E_EPISODE,
    E_NEXT_OPPONENT,
    E_SEED,
    E_STEP,
    EF_SCORE,
    P_KIND_NEUTRAL,
    P_OBEDIENT,
    P_OWN,
    P_STEP_LIMIT,
    P_TEAM_1_END,
    P_TEAM_2_END,
    Action,
    CompiledScenario,
    StepResult,
    new_episode,
)
from envs.scenarios.compiler import compile_scenario, unit_kinds
from envs.scenarios.scenario import Scenario
from envs.scenarios.units import Rules, unit_data

SPARE_SLOTS = 256  # for units that debug commands create
MELEE_SLOTS = 512
RACES = ("terran", "zerg", "protoss")

HALLS = {"terran": "CommandCenter", "zerg": "Hatchery", "protoss": "Nexus"}
SOLDIERS = {"terran": "Marine", "zerg": "Roach", "protoss": "Zealot"}
STARTING_WORKERS = 12
STARTING_MINERALS = 50
WAVE_LOOPS = 640  # every 40 s a melee computer gets its reinforcements: it gathers, but does not build


@dataclass(frozen=True, kw_only=True)
class Player:
    """A player: a race, and for a built-in computer its difficulty (1 to 10, 0 = not a computer)."""

    race: str = "terran"
    difficulty: int = 0


@dataclass
class Outcome:
    """Who won: the protocol's Result (1 victory, 2 defeat, 3 tie, 4 undecided) by player id."""

    results: dict[int, int] = field(default_factory=dict)


def computer_policy(difficulty: int, scenario: Scenario) -> str:
    """The scripted policy of a computer: up to VeryHard the map's own script, cheating levels play stronger than it.

    Difficulty 0 stands for the script of a map without a second player.
    """
    return {1: "idle", 8: "attack-move", 9: "focus-fire", 10: "kite"}.get(difficulty, scenario.teams[1].opponent)


def all_rules(scenario: Scenario | None, spec: MapSpec) -> Rules:
    """Every unit of the data file as a kind, the scenario's own first and with its changes."""
    names = [] if scenario is None else unit_kinds(scenario)
    overrides: Mapping[str, Mapping[str, float]] = {} if scenario is None else scenario.unit_overrides
    units: list[Any] = [(name, dict(overrides.get(name, {}))) for name in names]
    units += [name for name in unit_data() if name not in names]
    rules = Rules([*units, *hallucinated_units()], spec, players=2)
    make_illusory(rules)
    return rules


class World:
    """A game of one or two players on a map. Not thread-safe: `game.Game` locks around it."""

    def __init__(
        self,
        game_map: GameMap,
        players: Mapping[int, Player],
        *,
        seed: int,
        disable_fog: bool = False,
        episode: int = 0,
    ) -> None:
        self.map = game_map
        self.players = dict(players)
        self.seed = seed
        self.first_episode = episode  # with the seed it fixes all that is drawn at random in this game
        spec = replace(game_map.spec, fog=False) if disable_fog else game_map.spec
        self.rules = all_rules(game_map.scenario, spec)
        self.static = self.rules.static
        self.has_fog = bool(self.static.options[st.O_FOG])
        self.tech = make_tech(self.rules)
        self.kinds = Kinds(self.rules, self.tech, game_map.scenario)
        # Mini-games have no second player: their enemies follow the map's script like a computer's.
        self.commanded = self._difficulty(2) > 0 or 2 not in self.players
        self.compiled: CompiledScenario | None = None
        if game_map.scenario is None:
            self.state = new_state(self.static, 1, MELEE_SLOTS, seed)
        else:
            self._compile(game_map.scenario)
        # Without an economy its arrays are empty, and nothing reads them.
        self.has_economy = self.compiled is None
        self.economy = new_economy(self.state, self.tech) if self.has_economy else no_economy(self.tech)
        slots = self.state.i.shape[2]
        self.spells = Spells(self.rules, slots)
        self._tags, self._witnesses = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self._gone = np.zeros((slots, 2), np.int64)
        self.selected = np.zeros(slots, np.bool_)
        self.tables = self._make_tables()
        self.god: set[int] = set()
        self.control_enemy: set[int] = set()
        self.reveal: set[int] = set()
        self.loop_offset = 0
        self.tag_offset = 0
        self.dead: list[tuple[int, int]] = []
        self._num_gone, self._standing = 0, 0
        self.score_override: dict[int, int] = {}
        self.outcome: Outcome | None = None
        self._start()

    def _compile(self, scenario: Scenario) -> None:
        """The state, the episode and the phases of a scenario's map."""
        compiled = compile_scenario(scenario, self.rules, agents=max(self._agents(), 1), autoreset=False)
        if scenario.rules == "shards":
            compiled.i[P_KIND_NEUTRAL] = self.rules.kind["MineralShard"]  # these rules know beacons too
        own, team_slots = int(compiled.i[P_OWN]), int(compiled.i[P_TEAM_2_END])
        self.compiled = compiled
        self.state = new_state(self.static, 1, team_slots + SPARE_SLOTS, self.seed)
        self.episode = new_episode(1, team_slots, 1, own)
        self.episode.i[0, E_SEED], self.episode.i[0, E_EPISODE] = self.seed, self.first_episode
        self.episode.i[0, E_NEXT_OPPONENT] = opponent_id(computer_policy(self._difficulty(2), scenario))
        self._restart = np.ones(1, np.bool_)
        empty = np.zeros((1, 1, 0), np.int64)
        self._context = driver.make_context(
            self.state,
            self.static,
            compiled,
            self.episode,
            # Orders come through the protocol; the environment's own action arrays stay empty.
            Action(empty, empty, empty, empty.astype(np.bool_)),
            StepResult(np.zeros((1, 1)), np.zeros(1, np.bool_), np.zeros(1, np.bool_)),
            self._restart,
        )
        self._run = driver.advance_battles if scenario.rules == "battle" else driver.advance_games

    # --- reading ---

    @property
    def loop(self) -> int:
        """Game loops since the start of the game."""
        return self.loop_offset + int(self.state.w[0, st.W_LOOP])

    @property
    def scenario(self) -> Scenario | None:
        return self.map.scenario

    @property
    def context(self) -> driver.Context:
        """A scenario's world for compiled functions; it is their world 0."""
        return self._context

    @property
    def is_melee(self) -> bool:
        """A map of bases, with an economy."""
        return self.map.scenario is None and self.map.economy is None

    @property
    def is_battle(self) -> bool:
        """One of SMAC's maps or of their kind: revealed to both sides, restarted by killing all units."""
        return self.scenario is not None and self.scenario.rules == "battle"

    def tag(self, slot: int) -> int:
        """The protocol's tag: the slot in the high bits, as in the game, and which unit of the slot in the low ones."""
        return ((slot + 1) << TAG_SHIFT) | ((int(self.state.i[0, st.I_TAG, slot]) + self.tag_offset) & TAG_MASK)

    def slot(self, tag: int) -> int:
        """The slot of a living unit's tag, -1 if there is none."""
        slot = (tag >> TAG_SHIFT) - 1
        if not 0 <= slot < self.state.i.shape[2] or not self.state.i[0, st.I_ALIVE, slot] or self.tag(slot) != tag:
            return -1
        return slot

    def alive_slots(self) -> np.ndarray:
        """Slots in use, increasing."""
        return self.state.alive[0, : int(self.state.w[0, st.W_ALIVE])]

    def slots_of(self, player: int) -> list[int]:
        """Living units of a player."""
        alive = self.alive_slots()
        return [int(slot) for slot in alive[self.state.i[0, st.I_OWNER, alive] == player]]

    def place(self, slot: int) -> tuple[float, float]:
        """Where a unit is, or where it died."""
        return float(self.state.uf[0, slot, st.F_X]), float(self.state.uf[0, slot, st.F_Y])

    def snapshot_of(self, slot: int, tag: int) -> raw_pb2.Unit:
        """A building that died, as a player remembers it who did not see it fall."""
        row, owner = self.state.uf[0, slot], int(self.state.ui[0, slot, st.I_OWNER])
        unit = raw_pb2.Unit(tag=tag, owner=owner, radius=row[st.F_RADIUS], build_progress=1.0)
        unit.display_type, unit.cloak = raw_pb2.Snapshot, raw_pb2.CloakedUnknown
        unit.alliance = raw_pb2.Neutral if owner == st.NEUTRAL else raw_pb2.Enemy
        unit.unit_type = int(self.kinds.types[0 if owner == 1 else 1, self.state.ui[0, slot, st.I_KIND]])
        unit.pos.x, unit.pos.y, unit.pos.z = row[st.F_X], row[st.F_Y], row[st.F_Z]
        unit.facing = float(np.arctan2(row[st.F_FACING_Y], row[st.F_FACING_X]))
        unit.is_selected = unit.is_on_screen = unit.is_blip = False
        return unit

    def sees(self, player: int, slot: int) -> bool:
        """Whether a player sees a unit; player 0, an observer, sees all."""
        return player == 0 or bool((int(self.state.i[0, st.I_VISIBLE, slot]) >> player) & 1)

    def score(self, player: int) -> int:
        """The map's own score (player 1's); a battle has none."""
        if player in self.score_override:
            return self.score_override[player]
        game = self.map.economy
        if game is not None:
            if game.scored != "collected":
                return int(self.economy.made[0, player, self.rules.kind[game.scored]])
            bank = self.economy.bank[0, player]
            return int(bank[B_COLLECTED_MINERALS] + bank[B_COLLECTED_VESPENE])
        if self.compiled is None or self.is_battle:
            return 0
        return round(float(self.episode.f[0, EF_SCORE])) * (1 if player == 1 else -1)

    def is_army(self, slot: int) -> bool:
        """A unit that fights: neither worker nor structure."""
        return bool(self.kinds.role[self.state.ui[0, slot, st.I_KIND]] == ROLE_ARMY)

    def is_worker(self, slot: int) -> bool:
        return bool(self.kinds.role[self.state.ui[0, slot, st.I_KIND]] == ROLE_WORKER)

    def is_structure(self, slot: int) -> bool:
        return bool(self.state.i[0, st.I_FLAGS, slot] & st.FLAG_STRUCTURE)

    # --- the economy ---

    def ability_of(self, slot: int) -> int:
        """The ability by which a unit is made, 0 if there is none."""
        return int(self.tech.i[int(self.state.i[0, st.I_KIND, slot]), X_ABILITY])

    def unfinished(self, slot: int) -> bool:
        """A building under construction."""
        return self.has_economy and bool(self._economy_of(slot, E_UNFINISHED))

    def build_progress(self, slot: int) -> float:
        """From 0 to 1; 1 of everything that is finished."""
        if not self.unfinished(slot):
            return 1.0
        time = max(int(self.tech.i[int(self.state.i[0, st.I_KIND, slot]), X_TIME]), 1)
        return float(self.economy.f[0, EF_PROGRESS, slot]) / time

    def production(self, slot: int) -> list[tuple[int, float]]:
        """(kind, progress from 0 to 1) of the units in production in a building."""
        if not self.has_economy:
            return []
        kinds = [int(self.economy.i[0, E_QUEUE + n, slot]) for n in range(self._economy_of(slot, E_QUEUED))]
        progress = float(self.economy.f[0, EF_PROGRESS, slot])
        return [(k, 0.0 if n else progress / max(int(self.tech.i[k, X_TIME]), 1)) for n, k in enumerate(kinds)]

    def cancel_production(self, slot: int, place: int) -> bool:
        """Takes a unit out of a building's queue; False if there is none at that place."""
        return self.has_economy and bool(cancel_training(self.state, self.tech, self.economy, 0, slot, place))

    def _economy_of(self, slot: int, field: int) -> int:
        """An integer of the economy's, 0 when the slot's is another unit's."""
        if self.economy.i[0, E_TAG, slot] != self.state.i[0, st.I_TAG, slot]:
            return 0
        return int(self.economy.i[0, field, slot])

    def set_rally(self, slot: int, target: int, x: float, y: float) -> None:
        """Where units go that a building makes: to a unit (a slot; resources are gathered), or to a place."""
        self.economy.i[0, E_RALLY, slot] = RALLY_UNIT if target >= 0 else RALLY_POINT
        self.economy.i[0, E_RALLY_SLOT, slot] = target
        self.economy.i[0, E_RALLY_TAG, slot] = self.state.i[0, st.I_TAG, target] if target >= 0 else 0
        self.economy.f[0, EF_RALLY_X, slot], self.economy.f[0, EF_RALLY_Y, slot] = x, y

    # --- advancing ---

    def advance(self, loops: int) -> None:
        """Runs game loops, fewer if the game ends in between.

        `dead` then has the units that died: tag, and the players that saw it before (bit p: player p).
        """
        if self.outcome is not None:
            return
        self._num_gone = 0
        while self.outcome is None and loops > 0:
            # Spells are looked at once a loop while there are any.
            piece = 1 if self.spells.active else loops
            self.spells.advance(self)
            if self.compiled is not None:
                self._advance_scenario(piece)
            else:
                self._advance_melee(piece)
            loops -= piece
        self.dead = [(tag, seen) for tag, seen in self._gone[: self._num_gone].tolist()]
        if self.god:
            self.dead = [(tag, seen) for tag, seen in self.dead if self.slot(tag) < 0]  # not those given back

    def _advance_scenario(self, loops: int) -> None:
        assert self.compiled is not None and self.scenario is not None
        step = self.scenario.step_mul
        while loops > 0 and self.outcome is None:
            if self.is_battle and not len(self.alive_slots()):
                self._respawn()
            local = int(self.state.w[0, st.W_LOOP])
            # Ends are judged where an agent's step ends, as in the batched environment.
            piece = min(loops, step - local % step)
            if local % step == 0:
                self.episode.i[0, E_STEP] = local // step
                if self.commanded:
                    driver.command_opponents(self._context, 0, 1)
            if self.god:
                self._advance_gods(piece, lambda: self._run(self._context, 1, 0, 1))
            else:
                self._run(self._context, piece, 0, 1)
            loops -= piece
            self._num_gone = list_gone(self.tables, self.tag_offset, self._num_gone)
            if (local + piece) % step == 0:
                self._judge_scenario()

    def _advance_melee(self, loops: int) -> None:
        while loops > 0 and self.outcome is None:
            loop = self.loop
            piece = min(loops, 16 - loop % 16)
            if self.map.economy is not None:
                piece = min(piece, self.map.economy.loops - loop)
            if loop % 16 == 0:
                for player, setup in self.players.items():
                    if setup.difficulty:
                        self._command_melee(player, setup)
            if self.god:
                self._advance_gods(piece, lambda: self._advance_bases(1))
            else:
                self._advance_bases(piece)
            loops -= piece
            self._judge_melee()

    def _advance_bases(self, loops: int) -> None:
        self._num_gone, self._standing = advance_bases(self.tables, loops, self.tag_offset, self._num_gone)

    def _advance_gods(self, loops: int, one: Any) -> None:
        """Loop by loop, giving back what the units of the players in god mode lost."""
        f, i = self.state.f, self.state.i
        for _ in range(loops):
            mine = np.isin(i[0, st.I_OWNER], list(self.god)) & (i[0, st.I_ALIVE] != 0)
            tags, health, shield = (a[mine].copy() for a in (i[0, st.I_TAG], f[0, st.F_HEALTH], f[0, st.F_SHIELD]))
            kinds, places = i[0, st.I_KIND, mine].copy(), f[0, st.F_X : st.F_Y + 1, mine].copy()
            owners, slots = i[0, st.I_OWNER, mine].copy(), np.flatnonzero(mine)
            one()
            for n, slot in enumerate(slots):
                if not i[0, st.I_ALIVE, slot] or i[0, st.I_TAG, slot] != tags[n]:
                    x, y = places[n]
                    if create_unit_in(self.state, self.static, 0, kinds[n], owners[n], x, y, slot, slot + 1) < 0:
                        continue
                    i[0, st.I_TAG, slot] = self._tags[slot] = tags[n]
                f[0, st.F_HEALTH, slot] = max(f[0, st.F_HEALTH, slot], health[n])
                f[0, st.F_SHIELD, slot] = max(f[0, st.F_SHIELD, slot], shield[n])

    def _judge_scenario(self) -> None:
        assert self.compiled is not None and self.scenario is not None
        over = self.state.w[0, st.W_LOOP] >= self.compiled.i[P_STEP_LIMIT] * self.scenario.step_mul
        first = bool(self.state.tally[0, 1, st.T_ALIVE])
        second = bool(self.state.tally[0, 2, st.T_ALIVE])
        if not self.is_battle:
            if not first:
                self.outcome = Outcome({1: 2})
            elif over:
                self.outcome = Outcome({1: 3})
        elif self._agents() == 2 and not (first and second):
            self.outcome = Outcome({1: 1 if first else (2 if second else 3), 2: 1 if second else (2 if first else 3)})

    def _judge_melee(self) -> None:
        game = self.map.economy
        if game is not None and self.loop >= game.loops:
            self.outcome = Outcome({1: 3})
        if not self.map.start_locations or len(self.players) < 2:
            return
        standing = {player: bool(self._standing >> player & 1) for player in self.players}
        if all(standing.values()):
            return
        tie = not any(standing.values())
        self.outcome = Outcome({player: 3 if tie else (1 if up else 2) for player, up in standing.items()})

    def _agents(self) -> int:
        return sum(setup.difficulty == 0 for setup in self.players.values())

    def _difficulty(self, player: int) -> int:
        return self.players[player].difficulty if player in self.players else 0

    # --- starting ---

    def restart(self) -> None:
        """The same game from its start; scenarios go on to their next episode."""
        self.loop_offset = self.tag_offset = 0
        self.dead, self.outcome = [], None
        self.first_episode = self.first_episode + 1 if self.compiled is None else int(self.episode.i[0, E_EPISODE])
        self.spells.clear()
        self.score_override.clear()
        self.god.clear()
        self._start()

    def _start(self) -> None:
        if self.compiled is not None:
            self._begin_episode()
        else:
            self._begin_bases()
        note_tags(self.tables)

    def _begin_bases(self) -> None:
        reset_world(self.state, 0, self.seed + self.first_episode)
        reset_economy(self.economy, 0)
        for unit in self.map.placed_units:
            if unit.name in self.rules.kind:
                neutral = self.rules.entries[self.rules.kind[unit.name]]["race"] == "neutral"
                owner = unit.owner if unit.owner in self.players and not neutral else st.NEUTRAL
                self._place(unit.name, owner, unit.position)
        if self.map.economy is not None:
            self._start_economy_game(self.map.economy)
        else:
            for player, setup in self.players.items():
                self._start_base(player, setup.race)
        update_vision(self.state, self.static, 0)
        count_supply(self.state, self.tech, self.economy, 0)

    def _start_base(self, player: int, race: str) -> None:
        """A hall and workers, which gather from the start."""
        x0, y0, x1, y1 = self.map.playable
        place = self.map.start_locations[(player - 1) % len(self.map.start_locations)]
        hall = self.rules.kind[HALLS[race]]
        place = grid_place(self.tech, hall, *place)
        self.economy.bank[0, player, B_MINERALS] = STARTING_MINERALS
        self.create(hall, player, *place)
        outward = np.arctan2(place[1] - (y0 + y1) / 2, place[0] - (x0 + x1) / 2)
        fields = self._near_fields(place)
        for n in range(STARTING_WORKERS):
            angle = outward + (n - (STARTING_WORKERS - 1) / 2) * 0.16
            spot = place[0] + 3.8 * np.cos(angle), place[1] + 3.8 * np.sin(angle)
            slot = self.create(self.rules.kind[WORKERS[race]], player, *spot)
            if fields:
                field = min(fields, key=lambda other: (n >= len(fields) and other, self._distance(slot, other)))
                issue_order(self.state, self.static, 0, slot, st.ORDER_GATHER, field, *spot, False)

    def _near_fields(self, place: tuple[float, float]) -> list[int]:
        """Slots of the mineral fields of a base."""
        f, kinds = self.state.f[0], self.state.i[0, st.I_KIND]
        return [
            int(slot)
            for slot in self.alive_slots()
            if kinds[slot] == self.rules.kind["MineralField"]
            and np.hypot(f[st.F_X, slot] - place[0], f[st.F_Y, slot] - place[1]) < 10
        ]

    def _distance(self, slot: int, other: int) -> float:
        f = self.state.f[0]
        return float(np.hypot(f[st.F_X, slot] - f[st.F_X, other], f[st.F_Y, slot] - f[st.F_Y, other]))

    def _start_economy_game(self, game: EconomyGame) -> None:
        """A Command Center, and SCVs in two columns on its east or west side."""
        self.economy.bank[0, 1, B_MINERALS] = game.minerals
        self.create(self.rules.kind["CommandCenter"], 1, *game.hall)
        # The map scripts draw the side anew for every game.
        side = 1.0 if random_uniform(self.state, 0) < 0.5 else -1.0
        field = next(iter(self._near_fields(game.hall)), -1)
        for n in range(game.workers):
            spot = game.hall[0] + side * (4.5 - n % 2), game.hall[1] + 2.5 - n // 2
            slot = self.create(self.rules.kind["SCV"], 1, *spot)
            if game.gathering and field >= 0:
                issue_order(self.state, self.static, 0, slot, st.ORDER_GATHER, field, *spot, False)

    def _begin_episode(self) -> None:
        start = driver.start_battles if self.is_battle else driver.start_games
        start(self._context, 0, 1)
        driver.open_episodes(self._context, 0, 1)

    def _place(self, label: str, owner: int, place: tuple[float, float]) -> None:
        slot = create_unit(self.state, self.static, 0, self.rules.kind[label], owner, *place)
        if slot >= 0 and owner == st.NEUTRAL:
            self.state.i[0, st.I_FLAGS, slot] |= st.FLAG_INVULNERABLE
            # Resources are known to everybody from the start.
            self.state.i[0, st.I_VISIBLE, slot] |= 2 | 4

    def _respawn(self) -> None:
        """SMAC's maps set their units up again when none is left; the game's clock and tags go on."""
        self._num_gone = list_gone(self.tables, self.tag_offset, self._num_gone)
        self.loop_offset = self.loop
        self.tag_offset += int(self.state.w[0, st.W_NEXT_TAG])
        self._begin_episode()
        note_tags(self.tables)

    def create(self, kind: int, owner: int, x: float, y: float) -> int:
        """A unit outside the slots of the scenario's teams: its slot, -1 if the game is full."""
        first = int(self.compiled.i[P_TEAM_2_END]) if self.compiled is not None else 0
        count = self.state.i.shape[2]
        slot = int(create_unit_in(self.state, self.static, 0, kind, owner, x, y, first, count))
        if slot >= 0 and self.compiled is not None and owner == 1 and self.compiled.i[P_OBEDIENT]:
            self.state.i[0, st.I_FLAGS, slot] |= st.FLAG_OBEDIENT
        if slot >= 0:
            self._tags[slot], self._witnesses[slot] = self.state.ui[0, slot, st.I_TAG], 1 << owner
        return slot

    def order(self, slot: int, order: int, target: int = -1, place: tuple[float, float] | None = None) -> bool:
        """Gives a unit an order of the engine's at once; False if it cannot take it."""
        f = self.state.f[0]
        x, y = (float(f[st.F_X, slot]), float(f[st.F_Y, slot])) if place is None else place
        return bool(issue_order(self.state, self.static, 0, slot, order, target, x, y, False))

    def kill(self, slot: int) -> None:
        """Takes a unit out of the game."""
        kill_unit(self.state, 0, slot)

    # --- the built-in computer on melee maps ---

    def _command_melee(self, player: int, setup: Player) -> None:
        """Reinforcements by difficulty, which attack; the highest levels send their workers along."""
        if self.loop % WAVE_LOOPS == 0 and self.loop and setup.difficulty > 1:
            hall = next((slot for slot in self.slots_of(player) if self.is_structure(slot)), None)
            for n in range(setup.difficulty if hall is not None else 0):
                angle = 2 * np.pi * n / setup.difficulty
                x, y = self.state.f[0, st.F_X, hall], self.state.f[0, st.F_Y, hall]
                spot = x + 4 * np.cos(angle), y + 4 * np.sin(angle)
                self.create(self.rules.kind[SOLDIERS[setup.race]], player, *spot)
        target = self._melee_target(player) if setup.difficulty > 1 else None
        if target is None:
            return
        for slot in self.slots_of(player):
            soldier = self.is_army(slot) or (setup.difficulty >= 7 and self.is_worker(slot) and self.loop >= WAVE_LOOPS)
            if (
                soldier
                and self.state.i[0, st.I_ORDER, slot] == st.ORDER_STOP
                and self.state.i[0, st.I_TARGET, slot] < 0
            ):
                issue_order(self.state, self.static, 0, slot, st.ORDER_ATTACK_MOVE, -1, *target, False)

    def _melee_target(self, player: int) -> tuple[float, float] | None:
        for other in self.players:
            if other != player:
                for slot in self.slots_of(other):
                    if self.sees(player, slot):
                        return float(self.state.f[0, st.F_X, slot]), float(self.state.f[0, st.F_Y, slot])
                return self.map.start_locations[(other - 1) % len(self.map.start_locations)]
        return None

    # --- saving ---

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything that changes."""
        names = [
            "first_episode",
            "god",
            "control_enemy",
            "reveal",
            "loop_offset",
            "tag_offset",
            "dead",
            "score_override",
            "outcome",
        ]
        saved = {name: copy.deepcopy(getattr(self, name)) for name in names}
        saved["state"] = [array.copy() for array in self.state]
        saved["economy"] = [array.copy() for array in self.economy]
        saved["spells"] = self.spells.snapshot()
        if self.compiled is not None:
            saved["episode"] = [array.copy() for array in self.episode]
        return saved

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Brings a snapshot back; it can be restored again."""
        for name, value in saved.items():
            if name == "spells":
                self.spells.restore(value)
            elif name in ("state", "episode", "economy"):
                for array, old in zip(getattr(self, name), value, strict=True):
                    array[...] = old
            else:
                setattr(self, name, copy.deepcopy(value))
        note_tags(self.tables)

    # --- tables ---

    def _make_tables(self) -> Any:
        """The game for the compiled functions."""
        height, width = self.static.pathable.shape
        size = common_pb2.Size2DI(x=width, y=height)
        creep = common_pb2.ImageData(bits_per_pixel=1, size=size, data=bytes((width * height + 7) // 8))
        tail = wrap(2, creep.SerializeToString())
        # Tag and length of the visibility's `data`, which the cells of the grid follow.
        data = common_pb2.ImageData(bits_per_pixel=8, size=size).SerializeToString() + header(3, width * height)
        head = header(1, len(data) + width * height) + data
        head = header(3, len(head) + width * height + len(tail)) + head
        room = PREFIX_BYTES + len(head) + width * height + len(tail) + len(self._tags) * BYTES_PER_UNIT
        self.out = np.zeros(room, np.uint8)
        roles = self.tech.i[:, X_ROLE]
        category = np.full(len(roles), IN_TECHNOLOGY)
        category[np.isin(roles, (WORKER, HALL, GAS)) | (self.tech.i[:, X_PROVIDES] > 0)] = IN_ECONOMY
        category[self.kinds.role == ROLE_ARMY] = IN_ARMY
        return make_tables(
            self.state,
            self.static,
            self.tech,
            self.economy,
            UnitTables(
                marks=self.spells.marks,
                ability=self.kinds.ability,
                points=self.kinds.points,
                change=self.kinds.change,
                types=self.kinds.types,
                selected=self.selected,
            ),
            self.kinds.role,
            category,
            np.zeros((3, NUM_CATEGORIES)),
            self._tags,
            self._witnesses,
            self._gone,
            np.frombuffer(head, np.uint8).copy(),
            np.frombuffer(tail, np.uint8).copy(),
            self.out,
        )


def team_slots(compiled: CompiledScenario) -> tuple[range, range]:
    """The slots of the agent's and the opponent's team."""
    first, last = int(compiled.i[P_TEAM_1_END]), int(compiled.i[P_TEAM_2_END])
    return range(first), range(first, last)
