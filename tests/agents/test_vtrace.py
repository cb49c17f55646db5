"""V-trace and UPGO against float64 loops written from the papers' sums, and against Ray's implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.losses.upgo import upgo_returns
from agents.losses.vtrace import VTraceConfig, vtrace_loss, vtrace_targets
from agents.models.network import Evaluation

T, B = 9, 7


def fragment(seed: int, ends: float = 0.2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    kind = torch.rand(T, B, generator=generator)
    return {
        "log_ratio": normal(T, B) * 0.7,
        "reward": normal(T, B),
        "value": normal(T + 1, B),
        "terminated": kind < ends / 2,
        "truncated": (kind > ends / 4) & (kind < ends),  # some steps are both: then nothing may be bootstrapped
        "final_value": normal(T, B),
    }


def naive_vtrace(f: dict[str, np.ndarray], discount: float, lam: float, rho_clip: float, c_clip: float):
    """Equation 1 of the paper as a double sum within each episode; the action's advantage from section 4.2."""
    vs, advantage = np.zeros((T, B)), np.zeros((T, B))
    for b in range(B):

        def bootstrap(t: int, b: int = b) -> float:
            if f["terminated"][t, b]:
                return 0.0
            return f["final_value"][t, b] if f["truncated"][t, b] else f["value"][t + 1, b]

        for s in range(T):
            total, factor = f["value"][s, b], 1.0
            for t in range(s, T):
                ratio = np.exp(f["log_ratio"][t, b])
                delta = min(rho_clip, ratio) * (f["reward"][t, b] + discount * bootstrap(t) - f["value"][t, b])
                total += factor * delta
                factor *= discount * lam * min(c_clip, ratio)
                if f["terminated"][t, b] or f["truncated"][t, b]:
                    break
            vs[s, b] = total
        for s in range(T):
            ended = f["terminated"][s, b] or f["truncated"][s, b]
            following = bootstrap(s) if ended or s == T - 1 else vs[s + 1, b]
            q = f["reward"][s, b] + discount * following
            advantage[s, b] = min(rho_clip, np.exp(f["log_ratio"][s, b])) * (q - f["value"][s, b])
    return vs, advantage


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), lam=st.sampled_from([1.0, 0.9]), rho_clip=st.sampled_from([1.0, 2.0]))
def test_vtrace_equals_the_papers_sum(seed: int, lam: float, rho_clip: float) -> None:
    f = fragment(seed)
    expected = naive_vtrace({k: v.numpy() for k, v in f.items()}, 0.97, lam, rho_clip, 1.0)
    got = vtrace_targets(**f, discount=0.97, trace_lambda=lam, rho_clip=rho_clip)
    np.testing.assert_allclose(got.vs.numpy(), expected[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got.advantage.numpy(), expected[1], rtol=1e-10, atol=1e-12)


def test_vtrace_equals_rays() -> None:
    vtrace_torch = pytest.importorskip("ray.rllib.algorithms.impala.torch.vtrace_torch_v2").vtrace_torch
    f = {name: array.float() if array.dtype == torch.float64 else array for name, array in fragment(3).items()}
    f["truncated"] = torch.zeros_like(f["truncated"])  # Ray's V-trace knows discounts only
    got = vtrace_targets(**f, discount=0.99)
    vs, advantage = vtrace_torch(
        target_action_log_probs=f["log_ratio"],
        behaviour_action_log_probs=torch.zeros_like(f["log_ratio"]),
        discounts=0.99 * ~f["terminated"],
        rewards=f["reward"],
        values=f["value"][:-1],
        bootstrap_values=f["value"][-1],
    )
    torch.testing.assert_close(got.vs, vs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.advantage, advantage, rtol=1e-5, atol=1e-5)


def test_on_policy_vtrace_is_the_lambda_return() -> None:
    f = fragment(1)
    f["log_ratio"] = torch.zeros_like(f["log_ratio"])
    got = vtrace_targets(**f, discount=0.9, trace_lambda=0.0)
    bootstrap = torch.where(f["truncated"], f["final_value"], f["value"][1:]) * ~f["terminated"]
    torch.testing.assert_close(got.vs, f["reward"] + 0.9 * bootstrap)


def naive_upgo(f: dict[str, np.ndarray], discount: float) -> np.ndarray:
    returns = np.zeros((T, B))
    for b in range(B):
        for s in range(T):
            total, factor = 0.0, 1.0
            for t in range(s, T):
                total += factor * f["reward"][t, b]
                factor *= discount
                if f["terminated"][t, b]:
                    break
                if f["truncated"][t, b]:
                    total += factor * f["final_value"][t, b]
                    break
                if t == T - 1:
                    total += factor * f["value"][T, b]
                    break
                n = t + 1  # follow the trajectory through step n only if it did at least as well as V(x_n)
                after = 0.0 if f["terminated"][n, b] else f["value"][n + 1, b]
                if f["truncated"][n, b] and not f["terminated"][n, b]:
                    after = f["final_value"][n, b]
                if f["reward"][n, b] + discount * after < f["value"][n, b]:
                    total += factor * f["value"][n, b]
                    break
            returns[s, b] = total
    return returns


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_upgo_equals_its_definition(seed: int) -> None:
    f = fragment(seed)
    del f["log_ratio"]
    expected = naive_upgo({k: v.numpy() for k, v in f.items()}, 0.95)
    np.testing.assert_allclose(upgo_returns(**f, discount=0.95).numpy(), expected, rtol=1e-10, atol=1e-12)


def losses_of(seed: int, config: VTraceConfig):
    f = fragment(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    units = 3
    behaviour = -torch.rand(T, B, units, generator=generator, dtype=torch.float64)
    log_prob = (behaviour + 0.1 * torch.randn(T, B, units, generator=generator, dtype=torch.float64)).requires_grad_()
    value = f["value"].clone().requires_grad_()
    entropy = torch.rand(T, B, units, generator=generator, dtype=torch.float64).requires_grad_()
    evaluation = Evaluation(log_prob, entropy, torch.ones(T, B, units, dtype=torch.bool), value)
    return f, behaviour, evaluation, vtrace_loss(evaluation, {**f, "behaviour_log_prob": behaviour}, config, 0.3)


def test_gradients_of_the_vtrace_loss_are_those_of_its_formula() -> None:
    config = VTraceConfig(discount=0.9, trace_lambda=0.8, value_weight=0.7, upgo_weight=0.4)
    f, behaviour, evaluation, loss = losses_of(5, config)
    loss.total.backward()
    f["log_ratio"] = (evaluation.log_prob.detach() - behaviour).sum(-1)
    vs, advantage = naive_vtrace({k: v.numpy() for k, v in f.items()}, 0.9, 0.8, 1.0, 1.0)
    upgo = naive_upgo({k: v.numpy() for k, v in f.items()}, 0.9) - f["value"][:-1].numpy()
    rho = np.minimum(1.0, np.exp(f["log_ratio"].numpy()))
    expected = -(advantage + 0.4 * rho * upgo) / (T * B)
    assert evaluation.log_prob.grad is not None and evaluation.value.grad is not None
    assert evaluation.entropy.grad is not None
    for u in range(3):  # the joint action's log-probability is a sum: every unit gets the same weight
        np.testing.assert_allclose(evaluation.log_prob.grad[..., u].numpy(), expected, rtol=1e-9)
    value = f["value"].numpy()
    np.testing.assert_allclose(evaluation.value.grad[:-1].numpy(), 0.7 * (value[:-1] - vs) / (T * B), rtol=1e-8)
    assert evaluation.value.grad[-1].abs().max() == 0  # bootstraps are constants
    torch.testing.assert_close(evaluation.entropy.grad, torch.full_like(evaluation.entropy, -0.3 / (T * B)))


def test_termination_forgets_the_future_and_truncation_keeps_its_value() -> None:
    f = fragment(2, ends=0.0)
    f["terminated"][4] = True
    before = vtrace_targets(**f, discount=0.99)
    f["reward"][5:] += 100.0
    f["value"][5:] += 100.0
    f["final_value"] += 100.0
    after = vtrace_targets(**f, discount=0.99)
    assert torch.equal(before.vs[:5], after.vs[:5])
    f["terminated"][4], f["truncated"][4] = False, True
    at_limit = vtrace_targets(**f, discount=0.99)
    f["final_value"][4] += 1.0
    more = vtrace_targets(**f, discount=0.99)
    rho = f["log_ratio"][4].exp().clamp(max=1.0)
    torch.testing.assert_close(more.vs[4] - at_limit.vs[4], 0.99 * rho)
    f["reward"][5:] -= 50.0
    assert torch.equal(vtrace_targets(**f, discount=0.99).vs[:5], more.vs[:5])
