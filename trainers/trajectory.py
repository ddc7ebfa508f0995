"""Trajectories as records of a run folder, and the states along them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hpl_gym.agents.agent import Reply
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.rollout import Simulator, State
from hpl_gym.wrappers.transcript import Conversation


class TrajectoryError(HPLGymError):
    """A recorded trajectory does not replay in this environment."""


def to_record(states: list[State], **extra: Any) -> dict[str, Any]:
    """Return the trajectory through `states` (from a first state on) as a record."""
    last = states[-1]
    conversation = last.conversation
    return {
        **extra,
        "task_id": conversation.task_id,
        "task_type": conversation.task_type,
        "instruction": conversation.instruction,
        "observation": conversation.observation,
        "turns": [turn_record(state.conversation) for state in states[1:]],
        "snapshots": [state.snapshot.digest[:16] for state in states],
        "reward": last.reward,
        "success": last.success,
    }


def turn_record(conversation: Conversation) -> dict[str, Any]:
    """Return the last turn of `conversation` as a record."""
    turn = conversation.turns[-1]
    record: dict[str, Any] = {"reply": turn.reply, "observation": turn.observation}
    if turn.token_ids:
        record["token_ids"] = list(turn.token_ids)
    return record


def to_conversation(record: dict[str, Any], env_id: str) -> Conversation:
    """Return the conversation that a trajectory record holds."""
    conversation = Conversation(
        env_id,
        record["task_id"],
        record["task_type"],
        record["instruction"],
        record["observation"],
    )
    for turn in record["turns"]:
        conversation = conversation.add(
            turn["reply"], turn["observation"], tuple(turn.get("token_ids", ()))
        )
    return conversation


def replay(simulator: Simulator, record: dict[str, Any]) -> list[State]:
    """Return the states along a recorded trajectory.

    Raises:
        TrajectoryError: An observation differs from the record.
    """
    return retrace(simulator, simulator.start(record["task_id"]), record["turns"])


def retrace(
    simulator: Simulator, state: State, turns: Sequence[dict[str, Any]], *, exact: bool = True
) -> list[State]:
    """Return the states along recorded turns, `state` first.

    Args:
        simulator: A simulator of the state's task.
        state: Where to begin.
        turns: The turns.
        exact: Whether another observation than the recorded one is an error. Else the recorded one
            stands.

    Raises:
        TrajectoryError: An observation differs from the record, or the turn limit is lower.
    """
    states = [state]
    for turn in turns:
        if states[-1].over:
            raise TrajectoryError(
                f"A trajectory of {state.conversation.task_id} has {len(turns)} turns, more than "
                "this run plays: raise env.max_turns to what it was recorded with."
            )
        reply = Reply(turn["reply"], tuple(turn.get("token_ids", ())))
        before = states[-1].conversation
        states.append(simulator.step(states[-1], reply))
        last = states[-1].conversation
        if last.turns[-1].observation == turn["observation"]:
            continue
        if exact:
            raise TrajectoryError(
                f"Turn {len(last.turns)} of a trajectory of {last.task_id} gives another "
                "observation here than in the record: its games, dialect or server are not this "
                "run's."
            )
        seen = before.add(reply.text, turn["observation"], reply.token_ids, last.admissible)
        states[-1] = replace(states[-1], conversation=seen)
    return states
