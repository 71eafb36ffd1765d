"""Controlled-SDE economies as Gymnasium environments, with known generators and optima.

>>> import gymnasium as gym, hacontrol_envs
>>> env = gym.make("Merton-v0", risk_aversion=3.0)
>>> env.unwrapped.problem.solution().policy(0.0, env.unwrapped.state)
"""

from typing import TYPE_CHECKING, Any

from hacontrol_envs import problems  # noqa: F401  (importing registers every problem)
from hacontrol_envs.discrete import DiscreteProblem, Successors
from hacontrol_envs.domain import Domain
from hacontrol_envs.env import SDEEnv, SDEVectorEnv
from hacontrol_envs.firm_industry import Equilibrium, FirmIndustry
from hacontrol_envs.krusell_smith import KrusellSmith
from hacontrol_envs.problem import ControlProblem, Problem
from hacontrol_envs.problems.brock_mirman import BrockMirman
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.problems.krusell_smith import KrusellSmithHousehold
from hacontrol_envs.problems.krusell_smith_cloud import KrusellSmithCloud
from hacontrol_envs.problems.lqr import LQR
from hacontrol_envs.problems.merton import Merton
from hacontrol_envs.registration import economies, register, registered_ids
from hacontrol_envs.solution import Jet, Solution
from hacontrol_envs.transport import Transport, stationary_law

if TYPE_CHECKING:
    from hacontrol_envs.checks import check_problem, check_vector_env

__all__ = [
    "LQR",
    "BrockMirman",
    "ControlProblem",
    "DiscreteProblem",
    "Domain",
    "Equilibrium",
    "FirmIndustry",
    "FirmInvestment",
    "Jet",
    "KrusellSmith",
    "KrusellSmithCloud",
    "KrusellSmithHousehold",
    "Merton",
    "Problem",
    "SDEEnv",
    "SDEVectorEnv",
    "Solution",
    "Successors",
    "Transport",
    "check_problem",
    "check_vector_env",
    "economies",
    "register",
    "registered_ids",
    "stationary_law",
]


def __getattr__(name: str) -> Any:
    """The checks are imported when they are first asked for: only who writes a problem needs them."""
    if name in ("check_problem", "check_vector_env"):
        from hacontrol_envs import checks

        return getattr(checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
