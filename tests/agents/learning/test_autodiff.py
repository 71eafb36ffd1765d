"""Hand-written derivatives against torch.func, and their parameter derivatives against autograd through torch.func."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.func import functional_call, grad, hessian, jacrev, vmap  # noqa: E402

from hacontrol_agents.learning import autodiff  # noqa: E402
from hacontrol_agents.learning.autodiff import apply_generator, gradient, jet, parameter_jacobian  # noqa: E402
from hacontrol_agents.learning.networks import ACTIVATIONS, MLP  # noqa: E402

# torch.func's own start-up warns about the part of torch that it is written in.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")

SHAPES = [(1, 1), (2, 1), (3, 2), (10, 10), (4, 0)]
every_shape = pytest.mark.parametrize(("n", "m"), SHAPES)
every_activation = pytest.mark.parametrize("activation", [*sorted(set(ACTIVATIONS) - {"exp"}), "mixed"])
MIXED = ("exp", "tanh", "softplus")  # exp once: a tower of exponentials overflows
every_case = pytest.mark.parametrize(
    ("n", "m", "activation", "hidden"),
    [
        *((n, m, activation, (8, 6, 5)) for n, m in SHAPES for activation in ("tanh", "softplus", "mixed")),
        *((n, m, "tanh", hidden) for n, m in ((2, 1), (4, 0)) for hidden in ((), (7,))),
    ],
    ids=str,
)


def make(n: int, m: int, activation: str = "tanh", hidden: tuple[int, ...] = (8, 6, 5), rows: int = 7):
    """A network with non-zero biases, points, drift and noise columns."""
    draws = torch.Generator().manual_seed(100 * n + m)
    names = MIXED[: len(hidden)] if activation == "mixed" else activation
    network = MLP(n, hidden, activation=names, generator=draws)
    with torch.no_grad():
        for layer in network.layers:
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=draws, dtype=torch.float64))
    inputs = [torch.randn(rows, n, *tail, generator=draws, dtype=torch.float64) for tail in ((), (), (m,))]
    return network, *inputs


def expected(network: MLP) -> Callable[..., tuple[Tensor, Tensor]]:
    """(parameters, z, drift, columns) -> (v, Lv) of one point, from the full Hessian."""

    def values(theta: dict[str, Tensor], z: Tensor, drift: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        def v(y: Tensor) -> Tensor:
            return functional_call(network, theta, (y,))[0]

        second = torch.einsum("ik,ij,jk->", columns, hessian(v)(z), columns)
        return v(z), drift @ grad(v)(z) + 0.5 * second

    return values


def assert_same(got: Tensor, want: Tensor, relative: float = 2e-12) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert float((got - want).detach().abs().max()) <= relative * (1e-3 + float(want.detach().abs().max()))


@every_case
def test_generator_is_the_generator(n, m, activation, hidden):
    network, *inputs = make(n, m, activation, hidden)
    theta = dict(network.named_parameters())
    want = vmap(expected(network), in_dims=(None, 0, 0, 0))(theta, *inputs)
    with torch.no_grad():
        plain = apply_generator(network, *inputs)
    for got in (plain, apply_generator(network, *inputs)):
        for one, other in zip(got, want, strict=True):
            assert_same(one.detach(), other.detach())


@every_case
def test_parameter_jacobian(n, m, activation, hidden):
    network, *inputs = make(n, m, activation, hidden)
    rate_v = torch.linspace(-2, 1, len(inputs[0]), dtype=torch.float64)

    def row(theta, rate, *point):
        v, lv = expected(network)(theta, *point)
        return rate * v + 0.7 * lv

    parts = vmap(jacrev(row), in_dims=(None, 0, 0, 0, 0))(dict(network.named_parameters()), rate_v, *inputs)
    want = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
    v, lv, jacobian = parameter_jacobian(network, *inputs, rate_v, 0.7)
    assert_same(jacobian, want.detach())
    for one, other in zip((v, lv), apply_generator(network, *inputs), strict=True):
        assert_same(one, other.detach())


@every_activation
@every_shape
def test_backward_is_autograds(n, m, activation):
    network, *inputs = make(n, m, activation)
    theta = list(network.parameters())
    target = torch.linspace(0, 1, len(inputs[0]), dtype=torch.float64)

    def loss(v: Tensor, lv: Tensor) -> Tensor:
        return (lv - 0.3 * v - target).square().mean() + v.sin().sum()

    values = vmap(expected(network), in_dims=(None, 0, 0, 0))(dict(network.named_parameters()), *inputs)
    want = torch.autograd.grad(loss(*values), theta)
    got = torch.autograd.grad(loss(*apply_generator(network, *inputs)), theta)
    for one, other in zip(got, want, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("output", [0, 1])
def test_backward_of_one_output_alone(output):
    network, *inputs = make(3, 2)
    rates = (1.0, 0.0) if output == 0 else (0.0, 1.0)
    apply_generator(network, *inputs)[output].sum().backward()
    got = torch.cat([p.grad.flatten() for p in network.parameters()])
    assert_same(got, parameter_jacobian(network, *inputs, *rates)[2].sum(0))


@every_activation
def test_gradcheck(activation):
    network, *inputs = make(2, 1, activation, hidden=(4, 3), rows=3)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self) -> tuple[Tensor, Tensor]:
            return apply_generator(self.network, *inputs)

    module = Generator()
    names, theta = zip(*module.named_parameters(), strict=True)

    def outputs(*values: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(module, dict(zip(names, values, strict=True)), ())

    assert torch.autograd.gradcheck(outputs, [p.detach().clone().requires_grad_() for p in theta])


@every_case
def test_jet_and_gradient(n, m, activation, hidden):
    network, z, *_ = make(n, m, activation, hidden)

    def v(y: Tensor) -> Tensor:
        return network(y)[0]

    want = [vmap(f)(z).detach() for f in (v, grad(v), hessian(v))]
    for one, other in zip(jet(network, z), want, strict=True):
        assert_same(one, other)
        assert not one.requires_grad
    for one, other in zip(gradient(network, z), want, strict=False):
        assert_same(one, other)


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 8, 11])
def test_chunks_do_not_show(rows, monkeypatch):
    network, *inputs = make(3, 2, rows=rows)

    def everything() -> list[Tensor]:
        network.zero_grad()
        v, lv = apply_generator(network, *inputs)
        (v.sin() + lv.square()).sum().backward()
        sums = torch.cat([p.grad.flatten() for p in network.parameters()])
        jacobian = parameter_jacobian(network, *inputs, 0.5, 2.0)
        return [v.detach(), lv.detach(), sums, *jacobian, *jet(network, inputs[0]), *gradient(network, inputs[0])]

    whole = everything()
    monkeypatch.setattr(autodiff, "CPU_ROWS", 4)
    for one, other in zip(everything(), whole, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@every_activation
def test_single_precision(activation):
    network, *inputs = make(3, 2, activation)
    want = parameter_jacobian(network, *inputs, -1.0, 1.0)
    got = parameter_jacobian(network.float(), *(x.float() for x in inputs), -1.0, 1.0)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_activations_know_their_derivatives(activation):
    f = ACTIVATIONS[activation]
    z = torch.linspace(-30, 30, 241, dtype=torch.float64)
    h = f.value(z)
    f1 = f.first(h)
    f2 = f.second(h, f1)
    derivatives = [f.value]
    for _ in range(3):
        derivatives.append(grad(derivatives[-1]))
    for got, derivative in zip((h, f1, f2, f.third(h, f1, f2)), derivatives, strict=True):
        torch.testing.assert_close(got, vmap(derivative)(z), rtol=1e-12, atol=1e-15)


def test_the_network_draws_from_its_generator_alone():
    state = torch.random.get_rng_state()
    one, two = (MLP(3, (5,), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    other = MLP(3, (5,), generator=torch.Generator().manual_seed(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one.layers[0].weight, two.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)
    assert MLP(3, outputs=2)(torch.zeros(4, 5, 3, dtype=torch.float64)).shape == (4, 5, 2)


def test_only_parameters_are_differentiable():
    network, z, drift, columns = make(2, 1)
    with pytest.raises(ValueError, match="parameters only"):
        apply_generator(network, z.requires_grad_(), drift, columns)
    v, _ = apply_generator(network, z.detach(), drift, columns)
    (first,) = torch.autograd.grad(v.square().sum(), network.layers[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_changed_parameters_are_noticed_before_backward():
    network, *inputs = make(2, 1)
    v, _ = apply_generator(network, *inputs)
    with torch.no_grad():
        network.layers[0].weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        v.sum().backward()


@pytest.mark.parametrize(
    "shapes", [((5, 3), (5, 3), (5, 3, 1)), ((5, 2), (4, 2), (5, 2, 1)), ((5, 2), (5, 2), (5, 2)), ((2,), (2,), (2, 1))]
)
def test_wrong_shapes(shapes):
    with pytest.raises(ValueError, match="must have"):
        apply_generator(MLP(2), *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))


def test_wrong_networks():
    with pytest.raises(ValueError, match="activation"):
        MLP(2, activation="relu")
    with pytest.raises(ValueError, match="one per hidden layer"):
        MLP(2, (4, 4), activation=("exp",))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        MLP(2, (4, 0))
    with pytest.raises(ValueError, match="2 outputs"):
        gradient(MLP(2, outputs=2), torch.zeros(1, 2, dtype=torch.float64))
