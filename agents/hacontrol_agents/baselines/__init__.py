"""Agents to compare with: the optimum, chance, Stable-Baselines3's."""
