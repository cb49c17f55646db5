"""What `agents.rllib.private` and the overridden methods assume of Ray. Fails loudly on another version."""

import inspect
from importlib.metadata import version

import pytest


def parameters(function) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_ray_is_the_version_written_against():
    from agents.rllib.private import RAY_VERSION

    assert version("ray") == RAY_VERSION, (
        f"agents/rllib/private.py was written against ray {RAY_VERSION}; read the code that it touches in "
        f"{version('ray')}, then change RAY_VERSION, the pin in pyproject.toml and this file together"
    )


def test_only_the_files_named_for_it_import_ray():
    """The models and the losses work without Ray."""
    import ast
    from pathlib import Path

    import agents

    root = Path(agents.__file__).parent
    talks_to_ray = []
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
        if any(name == "ray" or name.startswith("ray.") for name in names):
            talks_to_ray.append(path.relative_to(root))
    outside = [path for path in talks_to_ray if path.parts[0] != "rllib"]
    # Recordings are read by Ray Data, inside one function.
    assert outside == [Path("acting/demonstrations.py")]
    assert Path("rllib/learner.py") in talks_to_ray


def test_env_runner_group():
    from ray.rllib.env.env_runner_group import EnvRunnerGroup
    from ray.rllib.utils.actor_manager import FaultTolerantActorManager

    manager = FaultTolerantActorManager([], init_id=1)
    assert manager._actors == {} and manager.healthy_actor_ids() == []
    assert {"actor_id", "healthy"} <= parameters(FaultTolerantActorManager.set_actor_state)
    assert "_worker_manager" in inspect.getsource(EnvRunnerGroup.__init__)
    # `config.env_runner_cls` decides what is built, and gets these arguments.
    source = inspect.getsource(EnvRunnerGroup._make_worker)
    for name in ("worker_index=", "num_workers=", "config=", "self.env_runner_cls"):
        assert name in source


def test_learner_group():
    from ray.rllib.core.learner.learner_group import LearnerGroup
    from ray.train._internal.backend_executor import BackendExecutor

    source = inspect.getsource(LearnerGroup)
    for name in ("_workers", "_learner", "_backend_executor", "_is_shut_down", "defer_solve_refs_to_learner"):
        assert name in source, name
    assert "graceful_termination" in parameters(BackendExecutor.shutdown)
    # Learners that act choose their worlds by their rank when they are built.
    assert source.index("_set_learner_index_and_placement_group") < source.index("build.remote()")
    assert "self._learner.shutdown()" in inspect.getsource(LearnerGroup.shutdown)


@pytest.mark.parametrize(
    ("method", "called_with"),
    [
        ("compute_loss_for_module", {"module_id", "config", "batch", "fwd_out"}),
        ("postprocess_gradients", {"gradients_dict"}),
        ("apply_gradients", {"gradients_dict"}),
        ("configure_optimizers_for_module", {"module_id", "config"}),
    ],
)
def test_learner_methods_that_are_overridden(method, called_with):
    from ray.rllib.core.learner.torch.torch_learner import TorchLearner

    assert called_with <= parameters(getattr(TorchLearner, method))


def test_update_goes_through_the_overridden_methods():
    from ray.rllib.core.learner.learner import Learner
    from ray.rllib.core.learner.torch.torch_learner import TorchLearner

    source = inspect.getsource(TorchLearner._uncompiled_update)
    order = ["forward_train", "compute_losses", "compute_gradients", "postprocess_gradients", "apply_gradients"]
    positions = [source.index(f"self.{name}(" if name != "forward_train" else "forward_train(") for name in order]
    assert positions == sorted(positions)
    assert "compute_loss_for_module" in inspect.getsource(Learner.compute_losses)
    for name in ("_named_optimizers", "_weights_seq_no", "_device", "_learner_index"):
        assert name in inspect.getsource(Learner.__init__)


def test_training_data_carries_references_unseen():
    from ray.rllib.core.learner.training_data import TrainingData

    fragments = [{"a": 1}, {"b": 2}, {"c": 3}]
    data = TrainingData(batch_refs=fragments)
    data.validate()
    assert data.batch_refs is fragments


def test_algorithm_hooks():
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    iteration = inspect.getsource(Algorithm._run_one_training_iteration)
    assert "self.restore_env_runners(" in iteration and "self.training_step()" in iteration
    assert "_dont_auto_sync_env_runner_states" in inspect.getsource(Algorithm.step)
    config = AlgorithmConfig()
    for name in ("create_local_env_runner", "torch_ddp_kwargs", "_dont_auto_sync_env_runner_states"):
        assert hasattr(config, name), name
    with pytest.raises(AttributeError):
        config.no_such_setting  # noqa: B018


def test_ray_is_started_anew_where_its_servers_were_too_slow(monkeypatch):
    """A busy machine may need longer than the 30 s that Ray allows them; other errors are told at once."""
    import ray

    from agents.rllib import cluster

    told, calls = [], []

    def fail(**options):
        calls.append(options)
        raise Exception(told[min(len(calls), len(told)) - 1])

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    # The text that is looked for is Ray's.
    assert "timed out during startup" in inspect.getsource(ray._private.node)
    slow = "The current node timed out during startup. This could happen"
    for texts, attempts, match in (([slow, "no memory"], 2, "no memory"), ([slow], 5, "timed out during startup")):
        calls.clear()
        told[:] = texts
        with pytest.raises(Exception, match=match):
            cluster._start(address="local", num_cpus=2)
        assert calls == attempts * [{"address": "local", "num_cpus": 2}]
