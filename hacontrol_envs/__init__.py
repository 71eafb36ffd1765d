"""Controlled-SDE economies as Gymnasium environments, with known generators and optima.

>>> import gymnasium as gym, hacontrol_envs
>>> env = gym.make("Merton-v0", risk_aversion=3.0)
>>> env.unwrapped.problem.solution().policy(0.0, env.unwrapped.state)
"""

from hacontrol_envs import problems  # noqa: F401  (importing registers every problem)
from hacontrol_envs.domain import Domain
from hacontrol_envs.problem import ControlProblem
from hacontrol_envs.problems.lqr import LQR
from hacontrol_envs.problems.merton import Merton
from hacontrol_envs.registration import register, registered_ids
from hacontrol_envs.solution import Jet, Solution

__all__ = ["LQR", "ControlProblem", "Domain", "Jet", "Merton", "Solution", "register", "registered_ids"]
