"""`hpl play`: watch one episode, or play it yourself."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from hpl_gym.trainers.commands.options import ConfigOption, RunOption, Settings, settings_of
from hpl_gym.trainers.commands.stages import DEFAULT_RUN


def play(
    overrides: Settings = None,
    agent: Annotated[
        str,
        typer.Option(help="human, random, scripted, informed, sft, train, or a model folder."),
    ] = "human",
    split: Annotated[
        str | None, typer.Option(help="Split the task is of; default the first of eval.splits.")
    ] = None,
    task: Annotated[int, typer.Option(help="Number of the task in its split.", min=0)] = 0,
    run: RunOption = DEFAULT_RUN,
    config: ConfigOption = None,
) -> None:
    """Play one episode and print it.

    Examples: `hpl play`, `hpl play --agent scripted --task 3`, `hpl play --agent train`
    """
    import asyncio

    from hpl_gym.trainers.evaluate import make_agent
    from hpl_gym.trainers.rollout import Simulator

    settings = settings_of(run, config, overrides, keep=False)
    env, limit = settings.env.make(split or settings.eval.splits[0])
    simulator = Simulator(env, limit)
    state = simulator.start(task)
    who = str(run / agent / "model") if agent in {"sft", "train"} else agent
    player = make_agent(settings, who, env, temperature=0.0)
    out = Console(highlight=False)
    out.print(state.conversation.observation, markup=False)
    while not state.over:
        reply = asyncio.run(player.act(state.conversation, settings.seed))
        state = simulator.step(state, reply)
        if agent != "human":
            out.print(reply.text, style="cyan", markup=False)
        out.print(state.conversation.turns[-1].observation, markup=False)
    end = "Solved" if state.success else "Out of turns" if state.truncated else "Over"
    out.print(f"[bold]{end}[/] after {len(state.conversation.turns)} turns.")
