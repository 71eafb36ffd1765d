"""torch's Adam, with a state that fits in a file."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

SLOTS = {"adam.mean": "exp_avg", "adam.square": "exp_avg_sq"}
"""Names of the saved tensors, each with its name in torch's state."""


@final
class Adam(torch.optim.Adam):
    """Adam of Kingma and Ba (2015) as torch has it, on one group of parameters."""

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the steps to come."""
        self.param_groups[0]["lr"] = rate

    def tensors(self) -> dict[str, Tensor]:
        """Return the state: means and mean squares of gradients, (P,) each, and the steps that every parameter has
        taken."""
        parameters = self.param_groups[0]["params"]
        states = [self.state[p] if p in self.state else _unmoved(p) for p in parameters]
        slots = {name: parameters_to_vector([state[slot] for state in states]) for name, slot in SLOTS.items()}
        return {**slots, "adam.steps": torch.stack([state["step"] for state in states])}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `tensors` returned."""
        parameters = self.param_groups[0]["params"]
        sizes = [p.numel() for p in parameters]
        parts = {slot: torch.split(tensors[name], sizes) for name, slot in SLOTS.items()}
        for i, p in enumerate(parameters):
            slots = {slot: parts[slot][i].view_as(p).clone() for slot in parts}
            self.state[p] = {"step": tensors["adam.steps"][i].cpu().clone(), **slots}


def _unmoved(p: Tensor) -> dict[str, Tensor]:
    """Return the state from which `torch.optim.Adam` starts a parameter."""
    return {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
