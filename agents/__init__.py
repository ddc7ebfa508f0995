"""Agents: everything that chooses actions."""
