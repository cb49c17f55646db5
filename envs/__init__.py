"""StarCraft II worlds behind Gymnasium: the embedded simulator, the PySC2 adapter and the SC2 API server.

Importing the package registers `perceiver_sc2/<scenario>-v0` for every built-in scenario, and the two mini-games of the
economy (`envs.economy_env`).
"""

from __future__ import annotations

from typing import Any

from perceiver_agents import require

# Before the first of them is imported.
require("envs", "gymnasium", "numba", "pettingzoo", "PIL", "av", "s2clientprotocol", "websockets", "mpyq", "tyro")

import gymnasium  # noqa: E402


def __getattr__(name: str) -> Any:
    # The environments bring Numba along; the names of the scenarios do not need it.
    if name == "SC2VectorEnv":
        from envs.vector_env import SC2VectorEnv

        return SC2VectorEnv
    if name == "SC2Env":
        from envs.env import SC2Env

        return SC2Env
    raise AttributeError(f"module 'envs' has no attribute {name!r}")


def _register() -> None:
    from importlib import resources

    def register(name: str, entry_point: str, **others: Any) -> None:
        # They are there already where the package is loaded under two names (`perceiver_agents.imports`).
        if f"perceiver_sc2/{name}-v0" not in gymnasium.registry:
            kwargs = {"scenario": name}
            gymnasium.register(f"perceiver_sc2/{name}-v0", f"{__name__}.{entry_point}", kwargs=kwargs, **others)

    for entry in resources.files(__name__).joinpath("scenarios", "builtin").iterdir():
        if entry.name.endswith(".toml"):
            vector = f"{__name__}.vector_env:SC2VectorEnv"
            register(entry.name.removesuffix(".toml"), "env:SC2Env", vector_entry_point=vector)
    for name in ("BuildMarines", "CollectMineralsAndGas"):
        register(name, "economy_env:EconomyEnv")


_register()
