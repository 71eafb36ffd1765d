"""Adam, whose state is two vectors and a number, so that it fits in a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

BETAS, EPSILON = (0.9, 0.999), 1e-8


@final
@dataclass
class Adam:
    """Kingma and Ba (2015), with their constants, on all parameters of a module at once."""

    module: nn.Module
    count: int = 0
    """Steps taken."""
    mean: Tensor = field(init=False)
    """Of gradients, (P,)."""
    square: Tensor = field(init=False)
    """Mean square of gradients, (P,)."""

    def __post_init__(self) -> None:
        self.mean = torch.zeros_like(parameters_to_vector(self.module.parameters()).detach())
        self.square = self.mean.clone()

    def gradient(self, loss: Tensor) -> Tensor:
        """Of a loss in the parameters, (P,)."""
        parameters = list(self.module.parameters())
        slopes = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        return torch.cat([part.reshape(-1) for part in slopes])

    def step(self, slope: Tensor, learning_rate: float) -> None:
        """One step down a gradient (P,)."""
        parameters = list(self.module.parameters())
        self.count += 1
        self.mean = BETAS[0] * self.mean + (1 - BETAS[0]) * slope
        self.square = BETAS[1] * self.square + (1 - BETAS[1]) * slope**2
        mean, square = self.mean / (1 - BETAS[0] ** self.count), self.square / (1 - BETAS[1] ** self.count)
        with torch.no_grad():
            theta = parameters_to_vector(parameters)
            vector_to_parameters(theta - learning_rate * mean / (square.sqrt() + EPSILON), parameters)
