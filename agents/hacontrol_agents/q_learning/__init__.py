"""Agents that learn in continuous time from steps alone."""
