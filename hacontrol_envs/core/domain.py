"""Domain: a box of named components, and the coordinates in which learners see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final, get_args

import numpy as np

from hacontrol_envs.arrays import Array, Floats, like, namespace
from hacontrol_envs.errors import ParameterError

Scale = Literal["linear", "log"]
Edge = Literal["open", "reflecting", "constrained"]


@final
class Domain:
    """A box low <= x <= high of n named components, each on a linear or a logarithmic scale.

    The unit coordinates of a point are u = 2 (c(x) - c(low)) / (c(high) - c(low)) - 1 with c the identity or the
    logarithm, componentwise, so that the box becomes [-1, 1]^n.

    What happens at both ends of a component is its edge:
      * "open": the state may leave; the box only says where the problem is posed to learners. u is then outside
        [-1, 1], and `from_unit` still inverts.
      * "reflecting": the state is reflected there (Skorokhod), so that V has slope zero across the edge.
      * "constrained": the state may not leave, and actions that would carry it out are not admissible there (a state
        constraint: Soner, 1986); see `ControlProblem.admissible`.

    Args:
        names: what each component is called in plots and tables.
        low, high: (n,) finite bounds, low < high; low > 0 on a logarithmic scale.
        scales: "linear" or "log", one for all components or one each.
        edges: "open", "reflecting" or "constrained", one for all components or one each.
        units: what components are measured in, for plots, one for all or one each; "" where there is none.

    Raises:
        ParameterError: bounds that are not finite, not increasing, or not positive on a logarithmic scale.
    """

    def __init__(
        self,
        names: Sequence[str],
        low: Sequence[float] | Floats,
        high: Sequence[float] | Floats,
        scales: Scale | Sequence[Scale] = "linear",
        edges: Edge | Sequence[Edge] = "open",
        units: str | Sequence[str] = "",
    ) -> None:
        self.names = tuple(names)
        self.low = np.asarray(low, dtype=np.float64)
        self.high = np.asarray(high, dtype=np.float64)
        self.scales: tuple[Scale, ...] = (scales,) * len(self.names) if isinstance(scales, str) else tuple(scales)
        self.edges: tuple[Edge, ...] = (edges,) * len(self.names) if isinstance(edges, str) else tuple(edges)
        self.units = (units,) * len(self.names) if isinstance(units, str) else tuple(units)
        self.log = np.array([scale == "log" for scale in self.scales])
        self.closed = np.array([edge != "open" for edge in self.edges])
        self.constrained = np.array([edge == "constrained" for edge in self.edges])
        self._refuse_bad_bounds()
        ends = [np.where(self.log, np.log(np.where(self.log, end, 1.0)), end) for end in (self.low, self.high)]
        self.center: Floats = (ends[1] + ends[0]) / 2
        self.half_width: Floats = (ends[1] - ends[0]) / 2

    def _refuse_bad_bounds(self) -> None:
        n = len(self.names)
        lengths = {len(self.log), len(self.edges), len(self.units)}
        if n == 0 or not self.low.shape == self.high.shape == (n,) or lengths != {n}:
            raise ParameterError(
                f"a domain of {n} names needs {n} low and high bounds, scales, edges and units, got {self!r}"
            )
        if not set(self.edges) <= set(get_args(Edge)):
            raise ParameterError(f"an edge is one of {', '.join(get_args(Edge))}, got {self!r}")
        if not (np.all(np.isfinite(self.low)) and np.all(np.isfinite(self.high)) and np.all(self.low < self.high)):
            raise ParameterError(f"a domain needs finite bounds with low < high, got {self!r}")
        if np.any(self.low[self.log] <= 0):
            raise ParameterError(f"a logarithmic scale needs a positive lower bound, got {self!r}")

    def __repr__(self) -> str:
        bounds = f"low={self.low}, high={self.high}"
        return f"Domain(names={self.names}, {bounds}, scales={self.scales}, edges={self.edges})"

    @property
    def dimension(self) -> int:
        """Number of components n."""
        return len(self.names)

    def label(self, component: int) -> str:
        """Return the name of a component with its unit, for the label of an axis."""
        unit = self.units[component]
        return f"{self.names[component]} ({unit})" if unit else self.names[component]

    def coordinates(self, x: Array) -> Array:
        """Return c(x): the logarithm of the components on a logarithmic scale, the others unchanged, (..., n)."""
        if not self.log.any():
            return x
        xp = namespace(x)
        if self.log.all():
            return xp.log(x)
        log = like_mask(self.log, x)
        return xp.where(log, xp.log(xp.where(log, x, xp.ones_like(x))), x)

    def from_coordinates(self, c: Array) -> Array:
        """Return the physical points x (..., n) with coordinates c(x) = c (..., n)."""
        if not self.log.any():
            return c
        xp = namespace(c)
        if self.log.all():
            return xp.exp(c)
        log = like_mask(self.log, c)
        return xp.where(log, xp.exp(xp.where(log, c, xp.zeros_like(c))), c)

    def to_unit(self, x: Array) -> Array:
        """Return the unit coordinates of physical points, (..., n) -> (..., n)."""
        return (self.coordinates(x) - like(self.center, x)) / like(self.half_width, x)

    def from_unit(self, u: Array) -> Array:
        """Return the physical points with these unit coordinates, (..., n) -> (..., n)."""
        return self.from_coordinates(like(self.center, u) + like(self.half_width, u) * u)

    def clip(self, x: Array) -> Array:
        """Return the nearest point of the box, componentwise, (..., n)."""
        return namespace(x).minimum(namespace(x).maximum(x, like(self.low, x)), like(self.high, x))

    def confine(self, x: Array) -> Array:
        """Bring points beyond an edge back, (..., n): fold them where it reflects, clip them where it is constrained.

        Folding is in the component's own coordinate. Points within the box, and open components, stay as they are.
        """
        if not self.closed.any():
            return x
        xp, c = namespace(x), self.coordinates(x)
        high, width = like(self.center + self.half_width, x), like(2 * self.half_width, x)
        folded = high - abs((c - high + width) % (2 * width) - width)  # the triangle wave of period 2 width
        inside = self.clip(self.from_coordinates(xp.where(like_mask(self.constrained, x), c, folded)))
        beyond = (x < like(self.low, x)) | (x > like(self.high, x))
        return xp.where(like_mask(self.closed, x) & beyond, inside, x)

    def unit_derivatives(self, x: Array) -> tuple[Array, Array]:
        """Return du/dx and d2u/dx2 of the unit coordinates u, componentwise, each (..., n)."""
        xp = namespace(x)
        width = like(self.half_width, x)
        if not self.log.any():
            return xp.ones_like(x) / width, xp.zeros_like(x)
        log = like_mask(self.log, x)
        safe = xp.where(log, x, xp.ones_like(x))
        return 1 / (safe * width), xp.where(log, -1 / (safe * safe * width), xp.zeros_like(x))

    def ito(self, x: Array, drift: Array, diffusion: Array) -> tuple[Array, Array]:
        """Return drift (..., n) and diffusion (..., n, d) of the unit coordinates of a process.

        Ito's formula, componentwise: du_i = (u_i' b_i + 1/2 u_i'' |sigma_i|^2) dt + u_i' sigma_i dW.

        Args:
            x: physical states, (..., n).
            drift: b of the process at x, (..., n).
            diffusion: sigma of the process at x, (..., n, d).
        """
        first, second = self.unit_derivatives(x)
        xp = namespace(x)
        variance = xp.sum(diffusion * diffusion, axis=-1)
        return first * drift + second * variance / 2, first[..., None] * diffusion


def like_mask(mask: Array, x: Array) -> Array:
    """Return a boolean constant in the library and on the device of `x`."""
    return mask if type(x) is np.ndarray else namespace(x).asarray(mask, device=x.device)
