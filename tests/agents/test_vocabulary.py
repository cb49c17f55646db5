"""What is learnt does not depend on the order of tables, and survives new entries."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.acting.arrays import map_arrays, to_arrays, to_tensors
from agents.configuration import ConfigError
from agents.models import heads
from agents.models.encoders import NUMERIC_RANGES
from agents.models.network import AgentNetwork, Evaluation, NetworkConfig
from agents.models.vocabulary import (
    EntityVocabulary,
    Vocabulary,
    map_axis,
    map_values,
    map_weights,
    simulator_vocabulary,
    tables_from_json,
    tables_to_json,
)
from tests.agents.synthetic import TINY, VOCABULARY, observations, spaces

UNITS, ENTITIES, WORLDS = 3, 7, 5
VIEWS = ("unit", "smac", "function")


def build(vocabulary: Vocabulary, view: str, seed: int, config: NetworkConfig = TINY) -> AgentNetwork:
    """A network for `vocabulary`'s sizes, with random weights everywhere: heads start out almost the same."""
    features, scalars = len(vocabulary.entities.features), len(vocabulary.scalars)
    observation_space, action_space = spaces(view, UNITS, ENTITIES)
    observation_space["entities"] = _box(ENTITIES, features)
    observation_space["scalars"] = _box(scalars)
    if view == "unit":
        action_space["order"] = type(action_space["order"])([len(vocabulary.orders)] * UNITS)
    elif view == "function":
        action_space["function"] = type(action_space["function"])(len(vocabulary.functions))
    torch.manual_seed(seed)
    network = AgentNetwork(config, observation_space, action_space, vocabulary)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def _box(*shape: int) -> Any:
    import gymnasium

    return gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)


def moved(network: AgentNetwork, vocabulary: Vocabulary, view: str) -> AgentNetwork:
    """A new network for `vocabulary` with the weights of `network`, by way of JSON as a checkpoint goes."""
    other = build(vocabulary, view, seed=99)
    tables = tables_from_json(json.loads(json.dumps(tables_to_json(network.tables()))))
    weights = map_weights(to_arrays(network.state_dict()), tables, other.named_axes(), "the test")
    other.load_state_dict(to_tensors(weights))
    return other


def evaluate(network: AgentNetwork, observation: dict[str, Any], action: Any) -> Evaluation:
    first = torch.ones(1, WORLDS, dtype=torch.bool)
    with torch.no_grad():
        return network.evaluate(
            *(map_arrays(lambda array: array[None], part) for part in (observation, action)), {}, first
        )


def assert_same(left: Evaluation, right: Evaluation) -> None:
    for name in ("log_prob", "entropy", "value"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-4, atol=1e-5, msg=name)


def permuted(names: tuple, order: list[int]) -> tuple:
    return tuple(names[i] for i in order)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), view=st.sampled_from(VIEWS))
def test_order_of_tables_does_not_matter(seed: int, view: str) -> None:
    """All tables shuffled, weights moved, and the same worlds shown in the new order: the same numbers."""
    random = np.random.default_rng(seed)
    old = VOCABULARY
    shuffle = {
        name: random.permutation(count).tolist()
        for name, count in {
            "features": len(old.entities.features),
            "units": len(old.entities.unit_types),
            "static": len(old.entities.static_names),
            "scalars": len(old.scalars),
            "functions": len(old.functions),
            "smac": len(old.smac_actions),
        }.items()
    }
    # The first order is what absent units do.
    shuffle["orders"] = [0, *(1 + random.permutation(len(old.orders) - 1)).tolist()]
    new = Vocabulary(
        entities=EntityVocabulary(
            features=permuted(old.entities.features, shuffle["features"]),
            unit_types=permuted(old.entities.unit_types, shuffle["units"]),
            unit_names=permuted(old.entities.unit_names, shuffle["units"]),
            static_names=permuted(old.entities.static_names, shuffle["static"]),
            static=old.entities.static[shuffle["units"]][:, shuffle["static"]],
        ),
        scalars=permuted(old.scalars, shuffle["scalars"]),
        orders=permuted(old.orders, shuffle["orders"]),
        order_target_class=old.order_target_class[shuffle["orders"]],
        target_classes=old.target_classes,
        smac_actions=permuted(old.smac_actions, shuffle["smac"]),
        functions=permuted(old.functions, shuffle["functions"]),
        function_takes=old.function_takes[shuffle["functions"]],
    )
    network = build(old, view, seed)
    observation = observations(view, WORLDS, UNITS, ENTITIES, torch.Generator().manual_seed(seed))
    action = network.act(observation, {}, torch.ones(WORLDS, dtype=torch.bool)).action
    before, after = old.tables(), new.tables()
    axes = {
        "entities": (-1, "entity_features"),
        "scalars": (-1, "scalars"),
        "order_mask": (-1, "orders"),
        "action_mask": (-1, "smac_actions"),
        "function_mask": (-1, "functions"),
        "selected_mask": (-2, "functions"),
        "target_unit_mask": (-2, "functions"),
    }
    shown = {
        name: torch.as_tensor(map_axis(array.numpy(), *axes[name], before, after, "the test"))
        if name in axes
        else array
        for name, array in observation.items()
    }
    tables = {"order": "orders", "function": "functions"}

    def renumbered(array: torch.Tensor, table: str) -> torch.Tensor:
        return torch.as_tensor(map_values(array.numpy(), table, before, after, "the test"))

    if isinstance(action, dict):
        done: Any = {k: renumbered(v, tables[k]) if k in tables else v for k, v in action.items()}
    else:
        done = renumbered(action, "smac_actions")
    expected = evaluate(network, observation, action)
    assert expected.log_prob.isfinite().all() and expected.value.std() > 0
    assert_same(expected, evaluate(moved(network, new, view), shown, done))


@pytest.mark.parametrize("view", VIEWS)
def test_new_entries_keep_what_was_learnt(view: str) -> None:
    """A unit, a feature, a scalar, an order and a function more, each in the middle of its table: no output changes."""
    old = VOCABULARY
    feature = next(name for name in NUMERIC_RANGES if name not in old.entities.features)
    new = dataclasses.replace(
        old,
        entities=EntityVocabulary(
            features=(*old.entities.features[:4], feature, *old.entities.features[4:]),
            unit_types=(9, *old.entities.unit_types),
            unit_names=("Newcomer", *old.entities.unit_names),
            static_names=(*old.entities.static_names[:1], "is_new", *old.entities.static_names[1:]),
            static=np.insert(np.insert(old.entities.static, 1, 1.0, axis=1), 0, 5.0, axis=0),
        ),
        scalars=("supply", *old.scalars),
        orders=(*old.orders[:2], "dance", *old.orders[2:]),
        order_target_class=np.insert(old.order_target_class, 2, 1),
        functions=("Dance_unit", *old.functions),
        function_takes=np.insert(old.function_takes, 0, True, axis=0),
    )
    network = build(old, view, seed=0)
    observation = observations(view, WORLDS, UNITS, ENTITIES, torch.Generator().manual_seed(1))
    action = network.act(observation, {}, torch.ones(WORLDS, dtype=torch.bool)).action
    shown = dict(observation)
    # What is new is there and not zero; the orders and functions of old are the only legal ones.
    shown["entities"] = torch.cat(
        [observation["entities"][..., :4], torch.rand(WORLDS, ENTITIES, 1), observation["entities"][..., 4:]], dim=-1
    )
    shown["scalars"] = torch.cat([torch.rand(WORLDS, 1), observation["scalars"]], dim=-1)
    if view == "unit":
        mask = observation["order_mask"]
        shown["order_mask"] = torch.cat([mask[..., :2], torch.zeros_like(mask[..., :1]), mask[..., 2:]], dim=-1)
        action = action | {"order": action["order"] + (action["order"] >= 2)}
    if view == "function":
        for name, axis in (("function_mask", 1), ("selected_mask", 1), ("target_unit_mask", 1)):
            first = torch.zeros_like(observation[name].narrow(axis, 0, 1))
            shown[name] = torch.cat([first, observation[name]], dim=axis)
        action = action | {"function": action["function"] + 1}
    before = action if view == "smac" else dict(action)
    if view == "unit":
        before["order"] = action["order"] - (action["order"] > 2).long()
    if view == "function":
        before["function"] = action["function"] - 1
    other = moved(network, new, view)
    assert_same(evaluate(network, observation, before), evaluate(other, shown, action))
    # A unit of the new type was one of the unknown types before; now its static data are known too.
    rows = other.embedding.type_table
    torch.testing.assert_close(rows[1], network.embedding.type_table[0])
    assert other.embedding.type_row[9] == 1 and network.embedding.type_row[9] == 0
    if view == "unit":
        assert other.head.order.weight[2].abs().max() == 0 and other.head.order.bias[2] == 0


def test_what_is_gone_is_refused_by_name() -> None:
    entities = VOCABULARY.entities
    fewer = dataclasses.replace(
        VOCABULARY,
        entities=dataclasses.replace(
            entities, unit_types=(48, 105), unit_names=("Marine", "Zergling"), static=entities.static[[0, 2]]
        ),
    )
    with pytest.raises(ConfigError, match=r"knows the unit type Medivac \(54\), which this version lacks"):
        moved(build(VOCABULARY, "unit", 0), fewer, "unit")
    renamed = dataclasses.replace(VOCABULARY, orders=(*VOCABULARY.orders[:-1], "mend"))
    with pytest.raises(ConfigError, match="knows the order heal, which"):
        moved(build(VOCABULARY, "unit", 0), renamed, "unit")
    with pytest.raises(ConfigError, match="does not say which order"):
        map_weights({"head.order.weight": np.zeros((7, 16))}, {}, build(VOCABULARY, "unit", 0).named_axes(), "it")


def test_two_units_with_one_type_id_are_refused() -> None:
    from envs.scenarios.units import check_type_ids, unit_data

    entities = VOCABULARY.entities
    with pytest.raises(ValueError, match="unit type 48 is listed twice"):
        dataclasses.replace(entities, unit_types=(48, 54, 48))
    units = unit_data()
    check_type_ids(units)
    with pytest.raises(ValueError, match="'Marine' and 'Copy' both have unit_type 48"):
        check_type_ids(units | {"Copy": units["Marine"]})


def test_every_parameter_that_a_table_shapes_names_its_entries() -> None:
    """Whatever changes its shape with a table must have an axis for it, or loading could not map it."""
    for view in VIEWS:
        small = build(VOCABULARY, view, 0)
        larger = dataclasses.replace(
            VOCABULARY,
            entities=dataclasses.replace(
                VOCABULARY.entities,
                features=(*VOCABULARY.entities.features, "cloak", "build_progress"),
                unit_types=(1, *VOCABULARY.entities.unit_types),
                unit_names=("A", *VOCABULARY.entities.unit_names),
                static_names=("s", *VOCABULARY.entities.static_names),
                static=np.zeros((4, 4), dtype=np.float32),
            ),
            scalars=(*VOCABULARY.scalars, "supply"),
            orders=(*VOCABULARY.orders, "dance"),
            order_target_class=np.append(VOCABULARY.order_target_class, 1),
            smac_actions=(*VOCABULARY.smac_actions, "dance"),
            functions=(*VOCABULARY.functions, "Dance_unit"),
            function_takes=np.concatenate([VOCABULARY.function_takes, [[1, 1, 1, 1]]]).astype(bool),
        )
        large = build(larger, view, 0).state_dict()
        shaped = {name for name, tensor in small.state_dict().items() if tensor.shape != large[name].shape}
        named = set(small.named_axes())
        assert shaped and shaped <= named
        # The grid of target points comes from the action space alone.
        assert named - shaped <= {"head.point.2.weight", "head.point.2.bias"}


# --- as earlier versions wrote them ---

EARLIER = Path(__file__).parent / "data" / "format_2"


def earlier_outputs(network: AgentNetwork) -> tuple[Evaluation, dict[str, np.ndarray]]:
    """What `network` says of the observations in the file, and what the version that wrote them said."""
    content = np.load(EARLIER / "outputs.npz")
    arrays = {name: torch.as_tensor(content[name]) for name in content.files}
    # Unit statistics may have been corrected since: the data of the time.
    for unit_type, data in zip(content["unit_types"], content["static"], strict=True):
        network.embedding.static[network.embedding.type_row[unit_type]] = torch.as_tensor(data)
    parts: dict[str, dict[str, torch.Tensor]] = {"observation": {}, "action": {}}
    for name, array in arrays.items():
        kind, _, part = name.partition(".")
        if part:
            parts[kind][part] = array[None]
    with torch.no_grad():
        first = torch.ones(1, len(arrays["value"]), dtype=torch.bool)
        return network.evaluate(parts["observation"], parts["action"], {}, first), content


def shuffled_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the table of units is reversed, and has a unit more."""
    from envs.scenarios import units

    table = dict(reversed(units.unit_data().items()))
    table = {"Newcomer": {**table["Marine"], "unit_type": 3000, "name": "Newcomer"}} | table
    monkeypatch.setattr(units, "unit_data", lambda: table)
    assert simulator_vocabulary().entities.unit_types[0] == 3000


@pytest.mark.parametrize("shuffle", [False, True])
def test_earlier_checkpoints_say_what_they_said(shuffle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.evaluation.playing import build_network
    from agents.runs.checkpoints import RunFolder, read_info

    if shuffle:
        shuffled_units(monkeypatch)
    run = RunFolder.open(EARLIER / "run")
    assert run.config.learning.vtrace.trace_lambda == 0.9
    checkpoint = run.latest()
    assert checkpoint is not None and read_info(checkpoint).updates == 4
    out, expected = earlier_outputs(build_network(run.config.network, run.config.world, checkpoint))
    for name in ("value", "log_prob", "entropy"):
        np.testing.assert_allclose(getattr(out, name)[0].numpy(), expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shuffle", [False, True])
def test_earlier_runs_are_resumed(shuffle: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, Adam's moments and counters go on; the folder is one of today from then on."""
    import shutil

    from rich.console import Console
    from safetensors.numpy import load_file

    from agents.presets import BudgetConfig, ClusterConfig
    from agents.rllib.cluster import connect
    from agents.runs.checkpoints import RunFolder, read_info
    from agents.train import build_algorithm, train

    shutil.copytree(EARLIER / "run", tmp_path / "run")
    if shuffle:
        shuffled_units(monkeypatch)
    stored = RunFolder.open(tmp_path / "run")
    cluster = ClusterConfig(num_env_runners=0, num_cpus=6)
    config = dataclasses.replace(stored.config, cluster=cluster, budget=BudgetConfig(env_steps=96))
    checkpoint = stored.latest()
    assert checkpoint is not None
    connect(cluster)
    algorithm = build_algorithm(config, checkpoint)
    try:
        assert algorithm.updates == 4 and algorithm.env_steps == 64
        weights, saved = algorithm.network_weights(), load_file(checkpoint / "weights.safetensors")
        rows = list(range(63)) if not shuffle else [0, *range(63, 1, -1)]
        np.testing.assert_array_equal(weights["embedding.type_table"][rows], saved["embedding.type_table"])
        np.testing.assert_array_equal(weights["value_output.weight"], saved["value_output.weight"])
        (optimizer,) = algorithm.learner_group._learner._named_optimizers.values()
        moments = optimizer.state_dict()["state"]
        first = moments[0]["exp_avg"].numpy()  # of the table of unit types
        assert first.shape == weights["embedding.type_table"].shape and float(moments[0]["step"]) == 4
        zealot, stalker = row_of(73), row_of(74)
        assert np.abs(first[[zealot, stalker]]).max(-1).min() > 0
        assert np.count_nonzero(np.abs(first).sum(-1)) == 2  # 2s3z has no other units
    finally:
        algorithm.stop()
    run = RunFolder(tmp_path / "run", config)
    run.write_config()
    again = train(run, Console(quiet=True))
    assert read_info(again).updates == 6 and RunFolder.open(tmp_path / "run").config == config
    assert json.loads((tmp_path / "run" / "config.json").read_text())["format"] == 3


def row_of(unit_type: int) -> int:
    return 1 + simulator_vocabulary().entities.unit_types.index(unit_type)


def test_a_run_whose_unit_is_gone_is_refused_before_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from agents.train import main
    from envs.scenarios import units

    shutil.copytree(EARLIER / "run", tmp_path / "run")
    table = {name: unit for name, unit in units.unit_data().items() if name != "Ultralisk"}
    monkeypatch.setattr(units, "unit_data", lambda: table)
    with pytest.raises(SystemExit) as stop:
        main(["--resume", str(tmp_path / "run"), "--budget.env-steps", "96"])
    assert stop.value.code == 2
    assert "knows the unit type Ultralisk (109), which this version lacks" in " ".join(capsys.readouterr().out.split())


def test_earlier_recordings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.acting import demonstrations
    from agents.presets import ClusterConfig
    from agents.rllib.cluster import connect

    connect(ClusterConfig(num_env_runners=0, num_cpus=6))

    def batch() -> dict[str, Any]:
        recording = demonstrations.open_recording(EARLIER / "recording")
        return next(iter(demonstrations.read_batches(recording, rows_per_batch=8, epochs=1, seed=0)))

    before = batch()
    assert set(np.unique(before["observation"]["entities"][..., 0])) == {0.0, 48.0}
    vocabulary = simulator_vocabulary()
    features = (*vocabulary.entities.features[::-1], "novelty")
    other = dataclasses.replace(
        vocabulary,
        entities=dataclasses.replace(vocabulary.entities, features=features),
        orders=(*vocabulary.orders[:1], *vocabulary.orders[:0:-1]),
        order_target_class=np.append(vocabulary.order_target_class[:1], vocabulary.order_target_class[:0:-1]),
        target_classes=vocabulary.target_classes[::-1],
        scalars=vocabulary.scalars[::-1],
    )
    monkeypatch.setattr(demonstrations, "simulator_vocabulary", lambda: other)
    after = batch()
    columns = [features.index(name) for name in vocabulary.entities.features]
    np.testing.assert_array_equal(after["observation"]["entities"][..., columns], before["observation"]["entities"])
    assert (after["observation"]["entities"][..., -1] == 0).all()
    np.testing.assert_array_equal(after["observation"]["scalars"][..., ::-1], before["observation"]["scalars"])
    np.testing.assert_array_equal(
        after["observation"]["target_mask"][..., ::-1, :], before["observation"]["target_mask"]
    )
    names = [
        np.array(table)[part["action"]["order"]] for table, part in ((vocabulary.orders, before), (other.orders, after))
    ]
    np.testing.assert_array_equal(names[0], names[1])
    assert "attack" in names[0]
    fewer = dataclasses.replace(other, orders=other.orders[:-1], order_target_class=other.order_target_class[:-1])
    monkeypatch.setattr(demonstrations, "simulator_vocabulary", lambda: fewer)
    with pytest.raises(ConfigError, match="knows the order stop, which this version lacks"):
        demonstrations.open_recording(EARLIER / "recording")


def test_league_and_optimizer_follow_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of today, restored after the table of units has changed: snapshots and moments are mapped too."""
    from agents.presets import SelfPlayConfig
    from tests.agents.ray_runs import build as build_algorithm
    from tests.agents.ray_runs import tiny_config

    config = tiny_config(
        updates=8,
        scenario="tests.agents.test_league:make_two_players",
        self_play=SelfPlayConfig(enabled=True, scripted=("idle",), snapshot_updates=3),
    )
    algorithm = build_algorithm(config)
    for _ in range(4):
        algorithm.train()
    algorithm.save_to_path(str(tmp_path / "algorithm"))
    weights = algorithm.network_weights()["embedding.type_table"]
    snapshot = algorithm.league.snapshots["snapshot-0001"]["embedding.type_table"]
    moments = optimizer_state(algorithm)
    before = simulator_vocabulary().entities.unit_types
    algorithm.stop()
    shuffled_units(monkeypatch)
    after = simulator_vocabulary().entities.unit_types
    rows = [0, *(1 + after.index(unit_type) for unit_type in before)]
    restored = build_algorithm(config)
    try:
        restored.restore_from_path(str(tmp_path / "algorithm"))
        assert restored.updates == 4
        now = restored.network_weights()["embedding.type_table"]
        assert len(now) == len(weights) + 1
        np.testing.assert_array_equal(now[rows], weights)
        np.testing.assert_array_equal(now[1], weights[0])
        np.testing.assert_array_equal(
            restored.league.snapshots["snapshot-0001"]["embedding.type_table"][rows], snapshot
        )
        for kind in ("exp_avg", "exp_avg_sq"):
            found = optimizer_state(restored)[0][kind].numpy()
            np.testing.assert_array_equal(found[rows], moments[0][kind].numpy())
            assert not found[1].any()
        restored.train()
    finally:
        restored.stop()


def optimizer_state(algorithm: Any) -> dict[int, dict[str, torch.Tensor]]:
    (optimizer,) = algorithm.learner_group._learner._named_optimizers.values()
    return map_arrays(torch.clone, optimizer.state_dict()["state"])


def test_every_head_is_listed() -> None:
    """Each action view has one head, and a space that no head knows is refused."""
    for view in VIEWS:
        _, action_space = spaces(view, UNITS, ENTITIES)
        taken = [head for head in heads.HEADS if head.for_space(action_space, 8, 8, VOCABULARY) is not None]
        assert len(taken) == 1
