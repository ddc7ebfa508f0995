"""HPL training: from expert trajectories to a trained, evaluated agent."""
