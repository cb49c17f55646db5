"""Random observations and spaces of the simulator's contract, without the simulator."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch import Tensor

from agents.models.network import AgentNetwork, NetworkConfig
from agents.models.vocabulary import EntityVocabulary, Vocabulary

FEATURES = ("unit_type", "alliance", "health", "shield", "energy", "x", "y", "facing", "radius", "weapon_cooldown")
UNIT_TYPES = (48, 54, 105)
ORDER_TARGET_CLASS = np.array([-1, -1, -1, 0, 1, 1, 2])  # two orders share a class of targets
FUNCTION_TAKES = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]], dtype=bool)
VOCABULARY = Vocabulary(
    entities=EntityVocabulary(
        features=FEATURES,
        unit_types=UNIT_TYPES,
        unit_names=("Marine", "Medivac", "Zergling"),
        static_names=("health", "speed", "range"),
        static=np.linspace(-1, 1, 3 * len(UNIT_TYPES)).reshape(len(UNIT_TYPES), 3).astype(np.float32),
    ),
    scalars=("time_fraction", "score", "own_units"),
    orders=("no_op", "stop", "hold", "move_to", "attack", "shoot", "heal"),
    order_target_class=ORDER_TARGET_CLASS,
    target_classes=("move_to", "attack", "heal"),
    smac_actions=("no_op", "stop", "north", "south", "east", "west"),
    functions=("no_op", "Stop_quick", "Attack_unit", "Attack_pt"),
    function_takes=FUNCTION_TAKES,
)
TINY = NetworkConfig(channels=16, num_heads=2, num_layers=1, num_latents=4)


def spaces(view: str, units: int, entities: int, points: int = 4) -> tuple[gymnasium.spaces.Dict, gymnasium.Space]:
    """(observation space, action space) of one world."""
    observation: dict[str, gymnasium.Space] = {
        "entities": Box(-np.inf, np.inf, (entities, len(FEATURES)), np.float32),
        "mask": MultiBinary(entities),
        "scalars": Box(-np.inf, np.inf, (3,), np.float32),
    }
    orders, functions = len(ORDER_TARGET_CLASS), len(FUNCTION_TAKES)
    if view == "unit":
        observation |= {"order_mask": MultiBinary((units, orders)), "target_mask": MultiBinary((units, 3, entities))}
        action: gymnasium.Space = gymnasium.spaces.Dict(
            order=MultiDiscrete([orders] * units), target=MultiDiscrete([entities] * units)
        )
    elif view == "smac":
        actions = 6 + entities - units
        observation |= {"action_mask": MultiBinary((units, actions))}
        action = MultiDiscrete([actions] * units)
    else:
        observation |= {
            "function_mask": MultiBinary(functions),
            "selected_mask": MultiBinary((functions, units)),
            "target_unit_mask": MultiBinary((functions, entities)),
        }
        action = gymnasium.spaces.Dict(
            function=Discrete(functions),
            queued=Discrete(2),
            selected=MultiBinary(units),
            target_unit=Discrete(entities),
            target_point=Discrete(points),
        )
    return gymnasium.spaces.Dict(observation), action


def observations(view: str, batch: int, units: int, entities: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A batch of worlds in which some units and entities are dead, with masks that are legal by the contract."""

    def coin(*shape: int, p: float = 0.6) -> Tensor:
        return torch.rand(shape, generator=generator) < p

    mask = coin(batch, entities, p=0.8)
    mask[0] = True
    array = torch.zeros(batch, entities, len(FEATURES))
    array[..., 0] = torch.tensor([48.0, 54.0, 105.0, 7.0])[torch.randint(4, (batch, entities), generator=generator)]
    array[..., 1] = torch.where(torch.arange(entities) < units, 1.0, 4.0)
    array[..., 2:] = torch.rand(batch, entities, len(FEATURES) - 2, generator=generator) * 50
    array = array * mask[..., None]
    observation = {"entities": array, "mask": mask, "scalars": torch.rand(batch, 3, generator=generator)}
    if view == "unit":
        target_mask = coin(batch, units, 3, entities) & mask[:, None, None] & mask[:, :units, None, None]
        order_mask = coin(batch, units, len(ORDER_TARGET_CLASS))
        order_mask[..., 1] = True
        has_target = target_mask.any(-1)
        for order, target_class in enumerate(ORDER_TARGET_CLASS):
            if target_class >= 0:
                order_mask[..., order] &= has_target[..., target_class]
        order_mask &= mask[:, :units, None]
        order_mask[..., 0] |= ~mask[:, :units]
        observation |= {"order_mask": order_mask, "target_mask": target_mask}
    elif view == "smac":
        action_mask = coin(batch, units, 6 + entities - units) & mask[:, :units, None]
        action_mask[..., 1] = mask[:, :units]
        action_mask[..., 0] = ~mask[:, :units]
        observation["action_mask"] = action_mask
    else:
        functions = len(FUNCTION_TAKES)
        selected_mask = coin(batch, functions, units) & mask[:, None, :units]
        target_mask = coin(batch, functions, entities) & mask[:, None]
        takes = torch.as_tensor(FUNCTION_TAKES)
        function_mask = (selected_mask.any(-1) | ~takes[:, 1]) & (target_mask.any(-1) | ~takes[:, 2])
        observation |= {
            "function_mask": function_mask,
            "selected_mask": selected_mask,
            "target_unit_mask": target_mask,
        }
    return observation


def network(view: str, units: int, entities: int, config: NetworkConfig = TINY, points: int = 4) -> AgentNetwork:
    """A small agent whose last layers are not tiny, so that tests see policies away from uniform."""
    net = AgentNetwork(config, *spaces(view, units, entities, points), VOCABULARY)
    with torch.no_grad():
        for parameter in net.head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net
