"""Judging: the distance of a policy, a value or an equilibrium from the truth."""
