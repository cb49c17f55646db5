"""Env-steps/s of JaxMARL's SMAX on CPU with random legal actions; run by `benchmarks/simulator.py` in a Python that
has JaxMARL.

python smax_peer.py MAP BATCH SECONDS     prints one JSON line
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
from jaxmarl import make
from jaxmarl.environments.smax import map_name_to_scenario


def measure(name: str, batch: int, seconds: float) -> dict:
    env = make("HeuristicEnemySMAX", scenario=map_name_to_scenario(name))

    # One compiled call a step, as a training loop would make it.
    @jax.jit
    def step(state, key):
        key_action, key_step = jax.random.split(key)
        available = jax.vmap(env.get_avail_actions)(state)
        actions = {
            agent: jax.random.categorical(jax.random.fold_in(key_action, index), jnp.where(mask > 0, 0.0, -jnp.inf))
            for index, (agent, mask) in enumerate(available.items())
        }
        observation, state, reward, _, _ = jax.vmap(env.step)(jax.random.split(key_step, batch), state, actions)
        return state, observation, reward

    key = jax.random.PRNGKey(0)
    _, state = jax.jit(jax.vmap(env.reset))(jax.random.split(key, batch))
    started = time.perf_counter()
    # Twice: the state that `step` gives has other weak types than that of `reset`, and compiles once more.
    for _ in range(2):
        state, *_ = jax.block_until_ready(step(state, key))
    compile_time = time.perf_counter() - started
    steps, done, started = 0, 0.0, time.perf_counter()
    while done < seconds:
        key, step_key = jax.random.split(key)
        state, *_ = jax.block_until_ready(step(state, step_key))
        steps += 1
        done = time.perf_counter() - started
    return {"steps_per_second": steps * batch / done, "compile_seconds": compile_time}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
