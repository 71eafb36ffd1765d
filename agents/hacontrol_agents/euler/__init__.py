"""Agents that solve the Euler equations of an economy."""
