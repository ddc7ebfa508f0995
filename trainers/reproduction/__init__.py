"""The paper's experiments at any scale: what to run, running it once, and the tables of it."""
