"""A linear stochastic system without a control that matters: its generator, values and laws are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hacontrol_envs import ControlProblem, Domain


@dataclass(frozen=True, eq=False)
class Linear(ControlProblem):
    """dX = (constant + A X) dt + D dW in the box |x_i| <= half_i, with reward flow(x)."""

    A: np.ndarray
    D: np.ndarray
    half: tuple[float, ...]
    flow: Callable[[np.ndarray], np.ndarray] = field(default=lambda x: 0 * x[..., 0])
    constant: float = 0.0
    edges: str = "open"
    discount: float = 0.5

    horizon = None
    controlled_diffusion = False
    action = Domain(["nothing"], [-1.0], [1.0])

    @property
    def noise_dim(self):
        return self.D.shape[1]

    @property
    def state(self):
        half = np.array(self.half)
        return Domain([f"x{i}" for i in range(len(half))], -half, half, "linear", self.edges)

    def drift(self, t, x, a):
        return self.constant + x @ self.A.T

    def diffusion(self, t, x, a):
        return np.broadcast_to(self.D, (*x.shape[:-1], *self.D.shape))

    def reward(self, t, x, a):
        return self.flow(x)

    def initial_state(self, rng, size):
        return np.zeros((size, len(self.half)))
