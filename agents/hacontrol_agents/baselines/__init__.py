"""Agents to compare with: the known optimum, random actions and Stable-Baselines3's algorithms."""
