"""Backends that run language models."""
