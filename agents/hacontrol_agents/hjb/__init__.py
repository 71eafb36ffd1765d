"""Agents that solve the HJB equation of a problem."""
