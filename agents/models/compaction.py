"""Rows that no world of a batch uses are left out before the network, and put back after it.

Units die, and some worlds have room for many more units than ever stand in them. Absent rows change no output, so the
network need not run on them. Rows are dropped for the batch as a whole: a row stays if any world needs it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agents.models.distributions import LOWEST


class Layout(NamedTuple):
    """What a head says of the rows in its observations and actions, so that absent ones can be left out.

    unit_axes, entity_axes: by the name of an array in the observation, its axis (M is axis 0) that runs over unit slots
    or entity rows. `entities` and `mask` are known. entity_parts: parts of an action that are numbers of entity rows.
    Every part of an action is [M, U, ...].
    """

    unit_axes: dict[str, int]
    entity_axes: dict[str, int]
    entity_parts: tuple[str, ...]


_OF_ENTITIES = {"entities": 1, "mask": 1}


class Compaction(NamedTuple):
    """Which rows of a batch with `U` unit slots and `N` entity rows are kept.

    units: long [U'], the kept unit slots.
    entities: long [N'], the kept entity rows: the units' in the same order, then the others'. The last one is absent
    and stands for all rows that are left out.
    place: long [N], the kept row of each entity row.
    layout: which arrays have these rows.
    """

    units: Tensor
    entities: Tensor
    place: Tensor
    layout: Layout

    @classmethod
    def of(cls, mask: Tensor, num_units: int, layout: Layout) -> Compaction | None:
        """For entity masks bool [M, N]; None where there is next to nothing to leave out."""
        present = mask.any(0)
        kept = int(present.sum())
        if kept + 1 >= len(present):
            return None
        # A batch without any unit still has the shape of one; and row 0, the target of orders that take none, stays 0.
        present[0] = True
        units = present[:num_units].nonzero().squeeze(-1)
        absent = int((~present).nonzero()[-1])
        others = present.clone()
        others[:num_units] = False
        entities = torch.cat([units, others.nonzero().squeeze(-1), units.new_tensor([absent])])
        place = torch.full((len(present),), len(entities) - 1, device=mask.device)
        place[entities] = torch.arange(len(entities), device=mask.device)
        return cls(units, entities, place, layout)

    def observation(self, observation: dict[str, Tensor]) -> dict[str, Tensor]:
        """The kept rows of an observation [M, ...]."""
        kept = dict(observation)
        for name, axis in self.layout.unit_axes.items():
            kept[name] = kept[name].index_select(axis, self.units)
        for name, axis in (_OF_ENTITIES | self.layout.entity_axes).items():
            kept[name] = kept[name].index_select(axis, self.entities)
        return kept

    def action(self, action: dict[str, Tensor]) -> dict[str, Tensor]:
        """The kept units' part of an action {part: [M, U, ...]}."""
        kept = {part: values.index_select(1, self.units) for part, values in action.items()}
        return kept | {part: self.place[kept[part].long()] for part in self.layout.entity_parts}

    def put_back(self, values: Tensor, num_units: int) -> Tensor:
        """Values [M, U', ...] of the kept units as [M, U, ...], 0 for the others (whose one action is all zeros)."""
        full = values.new_zeros(len(values), num_units, *values.shape[2:])
        return full.index_copy(1, self.units, values)

    def full_action(self, action: dict[str, Tensor], num_units: int) -> dict[str, Tensor]:
        """An action of the kept units as one of all, {part: [M, U, ...]}."""
        named = action | {part: self.entities[action[part]] for part in self.layout.entity_parts}
        return {part: self.put_back(values, num_units) for part, values in named.items()}

    def full_log_prob(self, log_prob: Tensor, legal: Tensor) -> Tensor:
        """Log-probabilities [M, U'] as [M, U]: 0 for units left out, the lowest number for what is illegal.

        legal: bool [M, U], as the head's `is_legal` says.
        """
        return self.put_back(log_prob, legal.shape[1]).masked_fill(~legal, LOWEST)
