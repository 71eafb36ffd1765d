"""What an agent is: hyperparameters, verbs, checkpoints, names."""
