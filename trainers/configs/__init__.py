"""Shipped settings, one YAML file a kind of run."""
