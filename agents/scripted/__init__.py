"""Scripted agents: solve a benchmark from its observations and explain themselves."""
