"""Scripted agents: solve a benchmark from its observations and explain themselves."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium

from hpl_gym.agents.agent import Agent
from hpl_gym.agents.scripted.alfworld import ScriptedALFWorld
from hpl_gym.core import HPLGymError, TextEnv


def expert(
    env: gymnasium.Env[str, str],
    mode: Literal["search", "informed"] = "search",
    turns: int = 10,
) -> Agent:
    """Return the scripted agent for the benchmark of `env`.

    Args:
        env: An environment of this package. For ``informed`` it must play the task in question.
        mode: ``search`` acts on observations alone. ``informed`` makes demonstrations: it knows
            where things are at the start of the task that `env` plays now, or the query that
            answers its question, and looks around as if it did not.
        turns: The turn limit that it plans for in the shop.

    Raises:
        HPLGymError: The benchmark has no scripted agent of that mode, or no task is played.
    """
    bare: Any = env.unwrapped
    is_ours = isinstance(bare, TextEnv)
    if mode not in ("search", "informed") or not is_ours:
        raise HPLGymError(
            f"There is no scripted agent of mode {mode!r} for {type(bare).__name__}: use search or "
            "informed, and an environment of this package."
        )
    if mode == "informed" and bare.task is None:
        raise HPLGymError("An informed expert knows one task: call env.reset() first.")
    if bare.env_id == "HPL/WebShop-v0" and mode == "search":
        from hpl_gym.agents.scripted.webshop import ScriptedWebShop

        return ScriptedWebShop(turns)
    if bare.env_id == "HPL/InterCodeSQL-v0":
        from hpl_gym.agents.scripted.intercode_sql import ScriptedInterCodeSQL

        return ScriptedInterCodeSQL(bare.question().gold if mode == "informed" else None)
    if bare.env_id != "HPL/ALFWorld-v0":
        raise HPLGymError(
            f"There is no scripted agent of mode {mode!r} for {bare.env_id}: choose another agent."
        )
    return ScriptedALFWorld(bare.locations() if mode == "informed" else {})
