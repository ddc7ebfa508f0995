"""What each step of a trajectory is worth, by rollouts of your own agent from restored states.

The scripted expert plays a household game. From each of its states a distracted agent goes on to
the end a number of times; the mean of the outcomes is the state's value (Monte Carlo, as HPL
estimates it). No prefix is played twice: every rollout begins by restoring a state.

    python examples/value_of_each_step.py
"""

import asyncio
import random

import gymnasium as gym

import hpl_gym  # noqa: F401
from hpl_gym.agents import Agent, Reply
from hpl_gym.agents.random import RandomAgent
from hpl_gym.agents.scripted import expert
from hpl_gym.trainers.rollout import Simulator, rollout
from hpl_gym.wrappers import Conversation

ROLLOUTS = 20


class Distracted:
    """Acts like another agent, and at random in half of the turns."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.random = agent, RandomAgent()

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the other agent's reply or a random one; the same for the same seed."""
        is_distracted = random.Random(f"{seed} {conversation.digest}").random() < 0.5
        return await (self.random if is_distracted else self.agent).act(conversation, seed)


async def main() -> None:
    """Play the game and print the value of each state."""
    env = gym.make("HPL/ALFWorld-v0", games="generated", rooms="small", split="valid_seen")
    simulator = Simulator(env.unwrapped, limit=15)
    start = simulator.start(3)
    print(start.conversation.instruction)
    agent = expert(env)
    policy = Distracted(agent)
    states = await rollout(simulator, agent, start)
    for state in states:
        ends = [(await rollout(simulator, policy, state, seed=n))[-1] for n in range(ROLLOUTS)]
        value = sum(end.reward for end in ends) / ROLLOUTS
        print(f"{value:4.2f}  {state.reply.action if state.reply else 'at the start'}")
    print(f"{simulator.steps} environment steps, each from a restored state")


if __name__ == "__main__":
    asyncio.run(main())
