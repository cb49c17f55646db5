"""Rows that no world of a batch uses are left out before the network, and put back after it.

Units die, and some worlds have room for many more units than ever stand in them. What is absent changes no output, so
the network need not be run on it. Rows are dropped for the batch as a whole: a row stays if any world needs it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agents.models.distributions import LOWEST, log_prob_of


class Compaction(NamedTuple):
    """Which rows of a batch with `U` unit slots and `N` entity rows are kept, for the action view "unit".

    units: long [U'], the kept unit slots. entities: long [N'], the kept entity rows: the units', in the same order,
    then the others', one absent row last, which stands for all that are left out. place: long [N], the kept row of
    each entity row.
    """

    units: Tensor
    entities: Tensor
    place: Tensor

    @classmethod
    def of(cls, mask: Tensor, num_units: int) -> Compaction | None:
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
        return cls(units, entities, place)

    def observation(self, observation: dict[str, Tensor]) -> dict[str, Tensor]:
        """The kept rows of an observation [M, ...]."""
        return observation | {
            "entities": observation["entities"].index_select(1, self.entities),
            "mask": observation["mask"].index_select(1, self.entities),
            "order_mask": observation["order_mask"].index_select(1, self.units),
            "target_mask": observation["target_mask"].index_select(1, self.units).index_select(3, self.entities),
        }

    def action(self, action: dict[str, Tensor]) -> dict[str, Tensor]:
        """The kept units' part of an action [M, U]."""
        return {
            "order": action["order"].index_select(1, self.units),
            "target": self.place[action["target"].index_select(1, self.units).long()],
        }

    def put_back(self, values: Tensor, num_units: int) -> Tensor:
        """Values [M, U'] of the kept units as [M, U], 0 for the others (who have one action, `no_op`, which is 0)."""
        return values.new_zeros(len(values), num_units).index_copy(1, self.units, values)

    def full_action(self, action: dict[str, Tensor], num_units: int) -> dict[str, Tensor]:
        """An action of the kept units as one of all [M, U]."""
        return {
            "order": self.put_back(action["order"], num_units),
            "target": self.put_back(self.entities[action["target"]], num_units),
        }

    def full_log_prob(self, log_prob: Tensor, observation: dict[str, Tensor], action: dict[str, Tensor]) -> Tensor:
        """Log-probabilities [M, U'] as [M, U]; of units left out 0, or the lowest number for what they cannot do."""
        order_mask = observation["order_mask"]
        legal = log_prob_of(order_mask, action["order"].long())
        return self.put_back(log_prob, order_mask.shape[1]).masked_fill(~legal, LOWEST)
