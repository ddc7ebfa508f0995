"""Agents: everything that chooses actions."""

from hpl_gym.agents.agent import Agent, Reply, play

__all__ = ["Agent", "Reply", "play"]
