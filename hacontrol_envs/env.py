"""The environments of `simulation.env`, under the name that saved specs of Gymnasium hold."""

from hacontrol_envs.simulation.env import SDEEnv, SDEVectorEnv, make_env, make_vector_env

__all__ = ["SDEEnv", "SDEVectorEnv", "make_env", "make_vector_env"]
