"""Agents that learn, or know, a policy for an environment of hacontrol_envs, with Stable-Baselines3's verbs.

>>> import gymnasium as gym, hacontrol_envs
>>> from hacontrol_agents import NeuralPolicyIteration
>>> agent = NeuralPolicyIteration(env=gym.make("LQR-v0"), seed=0).learn()
"""

from typing import TYPE_CHECKING

from hacontrol_agents import requirements  # noqa: F401  (the first: it says what is not installed)
from hacontrol_agents.core.registry import agents, find_agent, make_agent
from hacontrol_envs.lazy import on_demand

if TYPE_CHECKING:
    from hacontrol_agents.baselines.analytic import AnalyticAgent, RandomAgent, ReferenceAgent, SteadyStateAgent
    from hacontrol_agents.baselines.sb3 import (
        DiscretizedActorCritic,
        NativeVecEnv,
        PPOAgent,
        SACAgent,
        SB3Agent,
        TD3Agent,
    )
    from hacontrol_agents.certificates.certificate import Certificate
    from hacontrol_agents.certificates.certifying import certify
    from hacontrol_agents.core.agent import Agent
    from hacontrol_agents.core.learner import Learner
    from hacontrol_agents.equilibrium.economy_learner import EconomyLearner
    from hacontrol_agents.equilibrium.hjb_fokker_planck_pinn import HJBFokkerPlanckPinn
    from hacontrol_agents.equilibrium.industry_learner import IndustryLearner
    from hacontrol_agents.equilibrium.market_clearing import MarketClearing
    from hacontrol_agents.equilibrium.published_firm_pinn import PublishedFirmPinn
    from hacontrol_agents.euler.deqn import DEQN
    from hacontrol_agents.euler.published_deqn import PublishedDEQN
    from hacontrol_agents.hjb.hjb_pinn import HJBPinn
    from hacontrol_agents.hjb.neural_policy_iteration import NeuralPolicyIteration
    from hacontrol_agents.q_learning.ctq import CTQLearning
else:  # so that what needs no torch, such as `hacontrol list`, need not wait for it
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "baselines.analytic": "AnalyticAgent RandomAgent ReferenceAgent SteadyStateAgent",
            "baselines.sb3": "DiscretizedActorCritic NativeVecEnv PPOAgent SACAgent SB3Agent TD3Agent",
            "certificates.certificate": "Certificate",
            "certificates.certifying": "certify",
            "core.agent": "Agent",
            "core.learner": "Learner",
            "equilibrium.economy_learner": "EconomyLearner",
            "equilibrium.hjb_fokker_planck_pinn": "HJBFokkerPlanckPinn",
            "equilibrium.industry_learner": "IndustryLearner",
            "equilibrium.market_clearing": "MarketClearing",
            "equilibrium.published_firm_pinn": "PublishedFirmPinn",
            "euler.deqn": "DEQN",
            "euler.published_deqn": "PublishedDEQN",
            "hjb.hjb_pinn": "HJBPinn",
            "hjb.neural_policy_iteration": "NeuralPolicyIteration",
            "q_learning.ctq": "CTQLearning",
        },
    )

__all__ = [
    "DEQN",
    "Agent",
    "AnalyticAgent",
    "CTQLearning",
    "Certificate",
    "DiscretizedActorCritic",
    "EconomyLearner",
    "HJBFokkerPlanckPinn",
    "HJBPinn",
    "IndustryLearner",
    "Learner",
    "MarketClearing",
    "NativeVecEnv",
    "NeuralPolicyIteration",
    "PPOAgent",
    "PublishedDEQN",
    "PublishedFirmPinn",
    "RandomAgent",
    "ReferenceAgent",
    "SACAgent",
    "SB3Agent",
    "SteadyStateAgent",
    "TD3Agent",
    "agents",
    "certify",
    "find_agent",
    "make_agent",
]
