"""Base classes of agents, with their hyperparameters, verbs, checkpoints and names."""
