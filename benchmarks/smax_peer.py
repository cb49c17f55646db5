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

    def step(carry, key):
        state, keys = carry
        key_action, key_step = jax.random.split(key)
        available = jax.vmap(env.get_avail_actions)(state)
        actions = {
            agent: jax.random.categorical(jax.random.fold_in(key_action, index), jnp.where(mask > 0, 0.0, -jnp.inf))
            for index, (agent, mask) in enumerate(available.items())
        }
        observation, state, reward, _, _ = jax.vmap(env.step)(jax.random.split(key_step, batch), state, actions)
        # Every observation is used, so that the compiler cannot leave it out.
        total = sum(value.sum() for value in observation.values()) + sum(value.sum() for value in reward.values())
        return (state, keys), total

    @jax.jit
    def run(state, key):
        (state, _), totals = jax.lax.scan(step, (state, key), jax.random.split(key, steps))
        return state, totals

    steps = max(8, 2048 // batch)
    _, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.PRNGKey(0), batch))
    started = time.perf_counter()
    state, _ = jax.block_until_ready(run(state, jax.random.PRNGKey(1)))
    compile_time = time.perf_counter() - started
    done, rounds, started = 0.0, 0, time.perf_counter()
    while done < seconds:
        state, _ = jax.block_until_ready(run(state, jax.random.PRNGKey(rounds)))
        rounds += 1
        done = time.perf_counter() - started
    return {"steps_per_second": rounds * steps * batch / done, "compile_seconds": compile_time}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
