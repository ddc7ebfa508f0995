"""`hpl play`: watch one episode, or play it yourself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpl_gym.trainers.commands.names import PLAYERS, agent_of
from hpl_gym.trainers.commands.options import ConfigOption, RunOption, Settings, settings_of
from hpl_gym.trainers.commands.stages import DEFAULT_RUN


def play(
    overrides: Settings = None,
    agent: Annotated[
        str,
        typer.Option(
            help="human, random, scripted, informed (not in WebShop), a stage, method or --name of "
            "the run (sft, train, ...), a model folder, OWNER/NAME of the hub, or openai:MODEL at "
            "OPENAI_BASE_URL."
        ),
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

    from hpl_gym.trainers.cloned import refuse_other_prompt
    from hpl_gym.trainers.evaluate import make_agent
    from hpl_gym.trainers.rollout import Simulator

    who = agent_of(run, agent, ("human", *PLAYERS))
    settings = settings_of(run, config, overrides, keep=False)
    refuse_other_prompt(settings, Path(who))
    with Simulator(*settings.env.make(split or settings.eval.splits[0])) as simulator:
        state = simulator.start(task)
        player = make_agent(settings, who, simulator, temperature=0.0)
        watched = agent != "human"  # who plays is shown every observation but the last
        if watched:
            typer.echo(state.conversation.observation)
        while not state.over:
            reply = asyncio.run(player.act(state.conversation, settings.seed))
            state = simulator.step(state, reply)
            if watched:
                typer.secho(reply.text, fg="cyan")
            if watched or state.over:
                typer.echo(state.conversation.turns[-1].observation)
    end = "Solved" if state.success else "Out of turns" if state.truncated else "Over"
    typer.echo(f"{typer.style(end, bold=True)} after {len(state.conversation.turns)} turns.")
