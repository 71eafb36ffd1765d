"""Agents that find a price, a policy and a law at once."""
