"""Spells that PySC2's own tests cast: Hallucination, Guardian Shield and Graviton Beam.

They act on the engine's state between its loops. Times in game loops, lengths in world units; from the game's catalogs,
patch 4.10.0.75689.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from envs.engine.state import layout as st
from envs.engine.state.layout import State, Static
from envs.protocol.tables import M_ABILITY, M_ABILITY_TARGET, M_BUFF_1, M_BUFF_2, M_ILLUSION_KNOWN, NUM_MARKS
from envs.scenarios.units import Rules, unit_data

GUARDIAN_SHIELD, GRAVITON_BEAM, CANCEL_BEAM = 76, 173, 174
SHIELD_BUFF, BEAM_BUFF = 18, 5
SHIELD_EFFECT = 2
SHIELD_ENERGY, SHIELD_LOOPS, SHIELD_COOLDOWN, SHIELD_RADIUS = 75.0, 15 * 16, round(15.2 * 16), 4.0
BEAM_ENERGY, BEAM_LOOPS, BEAM_RANGE, BEAM_HEIGHT = 50.0, 10 * 16, 4.0, 3.75
ILLUSION_ENERGY, ILLUSION_LOOPS = 75.0, 60 * 16
# Hallucinations that the simulator has the units for, by ability.
ILLUSIONS = {
    146: "Archon",
    148: "Colossus",
    150: "HighTemplar",
    152: "Immortal",
    154: "Phoenix",
    156: "Probe",
    158: "Stalker",
    160: "VoidRay",
    164: "Zealot",
    2391: "Adept",
}
ILLUSION_COUNTS = {"Probe": 4, "Stalker": 2, "Zealot": 2, "Adept": 2}
CASTERS = {
    GUARDIAN_SHIELD: "Sentry",
    GRAVITON_BEAM: "Phoenix",
    CANCEL_BEAM: "Phoenix",
    **dict.fromkeys(ILLUSIONS, "Sentry"),
}
ENERGY = {GUARDIAN_SHIELD: SHIELD_ENERGY, GRAVITON_BEAM: BEAM_ENERGY, **dict.fromkeys(ILLUSIONS, ILLUSION_ENERGY)}


class SpellWorld(Protocol):
    """What spells act on, see `envs.protocol.world.World`."""

    state: State
    static: Static

    def create(self, kind: int, owner: int, x: float, y: float) -> int: ...

    def kill(self, slot: int) -> None: ...

    def order(self, slot: int, order: int) -> bool: ...


def _label(name: str) -> str:
    return f"{name} (hallucination)"


def hallucinated_units() -> list[tuple[str, dict[str, Any]]]:
    """Kinds for `Rules`: they look like their units, do no damage, have no armor and no abilities."""
    units = []
    for name in sorted(set(ILLUSIONS.values())):
        harmless = {"damage": 0, "bonus": {}, "splash": None, "bounces": None}
        weapons = {n: harmless for n in range(len(unit_data()[name]["weapons"]))}
        changes: dict[str, Any] = {"label": _label(name), "armor": 0, "shield_armor": 0, "detector": 0, "cost": {}}
        changes.update(heal=None, stim=None, blink=None, changes_to=None, abilities={}, weapons=weapons)
        units.append((name, changes))
    return units


def make_illusory(rules: Rules) -> None:
    """Hallucinations take twice the damage."""
    for name in set(ILLUSIONS.values()):
        rules.static.damage[:, :, rules.kind[_label(name)]] *= 2


@dataclass
class _Cast:
    """A spell that lasts: on `slot` (tag `tag`), for `loops` more loops; a beam's caster and its own."""

    slot: int
    tag: int
    loops: int
    caster: int = -1
    caster_tag: int = 0


class Spells:
    """The spells of one world."""

    def __init__(self, rules: Rules, slots: int) -> None:
        self.marks = np.zeros((slots, NUM_MARKS), np.int32)
        self._illusion_kind = {ability: rules.kind[_label(name)] for ability, name in ILLUSIONS.items()}
        self.clear()

    def clear(self) -> None:
        """Ends every spell."""
        self.shields: list[_Cast] = []
        self.beams: list[_Cast] = []
        self.coming_beams: list[_Cast] = []
        self.illusions: list[_Cast] = []
        self.cooldowns: dict[int, int] = {}
        self.marks[:] = 0
        self._marked = False

    @property
    def active(self) -> bool:
        """Whether anything is under way that each loop must look at."""
        return bool(self.shields or self.beams or self.coming_beams or self.illusions or self.cooldowns)

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything that changes."""
        names = ("shields", "beams", "coming_beams", "illusions", "cooldowns", "marks")
        return {name: copy.deepcopy(getattr(self, name)) for name in names}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Brings a snapshot back."""
        for name, value in saved.items():
            if name == "marks":
                self.marks[:] = value
                self._marked = True
            else:
                setattr(self, name, copy.deepcopy(value))

    # --- casting ---

    def ready(self, world: SpellWorld, slot: int, ability: int) -> bool:
        """Whether the cooldown of a spell is over."""
        return ability != GUARDIAN_SHIELD or int(world.state.i[0, st.I_TAG, slot]) not in self.cooldowns

    def cast(self, world: SpellWorld, slot: int, ability: int, target: int) -> bool:
        """Casts a spell; False if the caster cannot any more. A beam begins when its caster is in range."""
        f, tag = world.state.f[0], int(world.state.i[0, st.I_TAG, slot])
        if ability == CANCEL_BEAM:
            mine = [beam for beam in self.beams + self.coming_beams if (beam.caster, beam.caster_tag) == (slot, tag)]
            for beam in mine:
                beam.loops = 0
            return bool(mine)
        if f[st.F_ENERGY, slot] < ENERGY[ability] or not self.ready(world, slot, ability):
            return False
        if ability == GRAVITON_BEAM:
            beam = _Cast(target, int(world.state.i[0, st.I_TAG, target]), BEAM_LOOPS, slot, tag)
            self.coming_beams = [other for other in self.coming_beams if other.caster != slot]
            self.coming_beams.append(beam)
            return True
        f[st.F_ENERGY, slot] -= ENERGY[ability]
        if ability == GUARDIAN_SHIELD:
            self.shields.append(_Cast(slot, tag, SHIELD_LOOPS))
            self.cooldowns[tag] = SHIELD_COOLDOWN
            return True
        owner = int(world.state.i[0, st.I_OWNER, slot])
        x, y = float(f[st.F_X, slot]), float(f[st.F_Y, slot])
        for n in range(ILLUSION_COUNTS.get(ILLUSIONS[ability], 1)):
            angle = -np.pi / 2 + 1.2 * n
            spot = x + 1.5 * np.cos(angle), y + 1.5 * np.sin(angle)
            made = world.create(self._illusion_kind[ability], owner, *spot)
            if made >= 0:
                self.illusions.append(_Cast(made, int(world.state.i[0, st.I_TAG, made]), ILLUSION_LOOPS))
        return True

    # --- acting ---

    def _lasts(self, world: SpellWorld, cast: _Cast) -> bool:
        cast.loops -= 1
        i = world.state.i[0]
        alive = i[st.I_ALIVE, cast.slot] and i[st.I_TAG, cast.slot] == cast.tag
        if cast.caster >= 0:
            alive = alive and i[st.I_ALIVE, cast.caster] and i[st.I_TAG, cast.caster] == cast.caster_tag
        return bool(alive) and cast.loops > 0

    def advance(self, world: SpellWorld) -> None:
        """What the spells do in one game loop, before the battle's part of it."""
        if not self.active:
            return
        for cast in self.illusions:
            i = world.state.i[0]
            if cast.loops <= 1 and i[st.I_ALIVE, cast.slot] and i[st.I_TAG, cast.slot] == cast.tag:
                world.kill(cast.slot)
        self.illusions = [cast for cast in self.illusions if self._lasts(world, cast)]
        self.cooldowns = {tag: left - 1 for tag, left in self.cooldowns.items() if left > 1}
        had_shields = bool(self.shields)
        self.shields = [cast for cast in self.shields if self._lasts(world, cast)]
        if had_shields:
            guarded = self._guarded(world)
            flags = world.state.i[0, st.I_FLAGS]
            flags[:] = np.where(guarded, flags | st.FLAG_GUARDED, flags & ~st.FLAG_GUARDED)
        self._begin_beams(world)
        f, i = world.state.f[0], world.state.i[0]
        held = []
        for beam in self.beams:
            if self._lasts(world, beam):
                # Both are held: a unit that changes its mode does nothing else, and neither do these.
                f[st.F_BUSY, beam.slot] = f[st.F_BUSY, beam.caster] = 3
                i[st.I_WAKE, beam.slot] = i[st.I_WAKE, beam.caster] = 0
                held.append(beam)
            elif i[st.I_ALIVE, beam.slot] and i[st.I_TAG, beam.slot] == beam.tag:
                i[st.I_FLAGS, beam.slot] &= ~st.FLAG_FLYING
                f[st.F_BUSY, beam.slot] = 0
                i[st.I_WAKE, beam.slot] = 0
                f[st.F_Z, beam.slot] -= BEAM_HEIGHT
        self.beams = held

    def _begin_beams(self, world: SpellWorld) -> None:
        coming, self.coming_beams = self.coming_beams, []
        f, i = world.state.f[0], world.state.i[0]
        for beam in coming:
            loops = beam.loops
            if not self._lasts(world, beam) or i[st.I_ORDER_TARGET, beam.caster] != beam.slot:
                continue  # dead, or told something else on the way
            beam.loops = loops
            distance = np.hypot(
                f[st.F_X, beam.slot] - f[st.F_X, beam.caster], f[st.F_Y, beam.slot] - f[st.F_Y, beam.caster]
            )
            if distance > BEAM_RANGE + f[st.F_RADIUS, beam.slot] + f[st.F_RADIUS, beam.caster]:
                self.coming_beams.append(beam)
            elif f[st.F_ENERGY, beam.caster] >= BEAM_ENERGY and not i[st.I_FLAGS, beam.slot] & st.FLAG_FLYING:
                f[st.F_ENERGY, beam.caster] -= BEAM_ENERGY
                i[st.I_FLAGS, beam.slot] |= st.FLAG_FLYING
                f[st.F_Z, beam.slot] += BEAM_HEIGHT
                world.order(beam.caster, st.ORDER_STOP)
                world.order(beam.slot, st.ORDER_STOP)
                self.beams.append(beam)

    def _guarded(self, world: SpellWorld) -> np.ndarray:
        """[N]: units under a Guardian Shield of their side."""
        f, i = world.state.f[0], world.state.i[0]
        guarded = np.zeros(len(self.marks), np.bool_)
        for cast in self.shields:
            reach = SHIELD_RADIUS + f[st.F_RADIUS]
            near = np.hypot(f[st.F_X] - f[st.F_X, cast.slot], f[st.F_Y] - f[st.F_Y, cast.slot]) <= reach
            own = (i[st.I_OWNER] == i[st.I_OWNER, cast.slot]) & (i[st.I_ALIVE] != 0)
            guarded |= near & own & (i[st.I_FLAGS] & st.FLAG_STRUCTURE == 0)
        return guarded

    # --- telling ---

    def update_marks(self, world: SpellWorld) -> np.ndarray:
        """`marks` [N, NUM_MARKS] as of now: buffs, who knows a hallucination for one (bit p: player p), spells held."""
        marks = self.marks
        if self._marked:
            marks[:] = 0
        self._marked = self.active
        if not self.active:
            return marks
        f, i = world.state.f[0], world.state.i[0]
        if self.shields:
            marks[self._guarded(world), M_BUFF_1] = SHIELD_BUFF
        for beam in self.beams:
            marks[beam.slot, M_BUFF_2] = BEAM_BUFF
        for beam in self.beams + self.coming_beams:
            marks[beam.caster, M_ABILITY] = GRAVITON_BEAM
            marks[beam.caster, M_ABILITY_TARGET] = beam.slot + 1
        detection = world.static.kind_f[i[st.I_KIND], st.K_DETECTION]
        detectors = np.flatnonzero((detection > 0) & (i[st.I_ALIVE] != 0))
        for cast in self.illusions:
            known = 1 << int(i[st.I_OWNER, cast.slot])
            for slot in detectors:
                distance = np.hypot(f[st.F_X, slot] - f[st.F_X, cast.slot], f[st.F_Y, slot] - f[st.F_Y, cast.slot])
                if distance <= detection[slot]:
                    known |= 1 << int(i[st.I_OWNER, slot])
            marks[cast.slot, M_ILLUSION_KNOWN] = known | 1  # player 0, an observer, knows
        return marks

    def shields_at(self, world: SpellWorld) -> list[tuple[float, float, int]]:
        """(x, y, owner) of every Guardian Shield."""
        f, i = world.state.f[0], world.state.i[0]
        return [
            (float(f[st.F_X, cast.slot]), float(f[st.F_Y, cast.slot]), int(i[st.I_OWNER, cast.slot]))
            for cast in self.shields
        ]
