"""Smooth multilayer perceptrons, and activations that know their own derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hacontrol_agents.learning.sizes import MOST_WEIGHTS, refuse_large
from hacontrol_envs.core.parameters import count, short
from hacontrol_envs.errors import ParameterError

__all__ = ["ACTIVATIONS", "MLP", "MOST_WEIGHTS", "Activation", "refuse_large"]


@dataclass(frozen=True)
class Activation:
    """A smooth scalar function f whose derivatives are cheap functions of its own value h = f(z).

    value   z            -> h = f(z)
    first   h            -> f'(z)
    second  h, f'        -> f''(z)
    third   h, f', f''   -> f'''(z)

    Derivatives read h and not z, so that a pass over a network need not keep z nor repeat the transcendental.
    """

    value: Callable[[Tensor], Tensor]
    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor, Tensor], Tensor]
    third: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __reduce__(self) -> Any:
        """Pickle by name, as functions are."""
        return activation, (next(name for name, known in ACTIVATIONS.items() if known is self),)


def activation(name: str) -> Activation:
    """Return the activation of this name in `ACTIVATIONS`."""
    return ACTIVATIONS[name]


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(
        value=torch.tanh,
        first=lambda h: 1.0 - h * h,
        second=lambda h, f1: torch.mul(h, f1).mul_(-2.0),
        third=lambda h, f1, f2: (6.0 * f1).sub_(4.0).mul_(f1).neg_(),  # f' (6 h^2 - 2), with h^2 = 1 - f'
    ),
    "exp": Activation(
        value=torch.exp,
        first=lambda h: h,
        second=lambda h, f1: h,
        third=lambda h, f1, f2: h,
    ),
    "softplus": Activation(
        # torch's own softplus turns linear beyond a threshold and loses digits there.
        value=lambda z: torch.logaddexp(z, z.new_zeros(())),
        first=lambda h: torch.expm1(-h).neg_(),  # the logistic function: 1 - e^{-h}
        second=lambda h, f1: torch.addcmul(f1, f1, f1, value=-1.0),
        third=lambda h, f1, f2: torch.addcmul(f2, f1, f2, value=-2.0),
    ),
}


class MLP(nn.Module):
    """A multilayer perceptron v(z) = W_L f(... f(W_1 z + b_1) ...) + b_L with a smooth activation f.

    Weights start from Xavier's uniform law, biases from zero. All draws come from `generator` (a CPU generator;
    a fresh one with torch's default seed if None) and never from the global random state.

    Shapes: z (..., inputs) -> (..., outputs).
    Raises ParameterError (a ValueError) for an unknown activation or widths that are not whole numbers of at least 1.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int] = (32, 32),
        outputs: int = 1,
        *,
        activation: str | Sequence[str] = "tanh",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if not isinstance(hidden, Sequence) or isinstance(hidden, str):
            raise ParameterError(f"hidden must be a tuple of the layers' widths, such as (32, 32), got {hidden!r}")
        widths = (inputs, *(count("a layer's width", width) for width in hidden), outputs)
        refuse_large(widths)
        names = (activation,) * len(hidden) if isinstance(activation, str) else tuple(activation)
        if len(names) != len(hidden) or not set(names) <= set(ACTIVATIONS):
            raise ParameterError(
                f"unknown activation: need one of {sorted(ACTIVATIONS)}, or one per hidden layer; "
                f"got {short(activation)}"
            )
        self.activations = tuple(ACTIVATIONS[name] for name in names)
        generator = torch.Generator() if generator is None else generator
        self.layers = nn.ModuleList(_linear(i, o, generator, dtype) for i, o in pairwise(widths))

    def forward(self, z: Tensor) -> Tensor:
        """Return values (..., outputs) at the points z (..., inputs)."""
        *hidden, last = self.layers
        for layer, activation in zip(hidden, self.activations, strict=True):
            z = activation.value(layer(z))
        out: Tensor = last(z)
        return out


def _linear(inputs: int, outputs: int, generator: torch.Generator, dtype: torch.dtype) -> nn.Linear:
    # Linear's own initialisation would draw from the global random state.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)  # type: ignore[no-untyped-call]
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
