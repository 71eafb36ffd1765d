"""Contracts that anyone can run: on a problem of one's own, and on any Gymnasium vector environment."""

from hacontrol_envs.checks.problem import check_problem
from hacontrol_envs.checks.vector_env import check_vector_env

__all__ = ["check_problem", "check_vector_env"]
