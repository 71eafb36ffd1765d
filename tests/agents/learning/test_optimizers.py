"""Levenberg-Marquardt against problems with known answers."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.utils import parameters_to_vector  # noqa: E402

from hacontrol_agents.learning.autodiff import parameter_jacobian  # noqa: E402
from hacontrol_agents.learning.networks import MLP  # noqa: E402
from hacontrol_agents.learning.optimizers import LevenbergMarquardt, _System  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


class Point(nn.Module):
    """Bare parameters."""

    def __init__(self, *start: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def solve(optimizer: LevenbergMarquardt, residual, steps: int):
    """Run `steps` steps on residual(theta), its Jacobian by torch.func."""
    point = optimizer.network

    def both() -> tuple[Tensor, Tensor]:
        theta = point.theta.detach()
        return residual(theta), torch.func.jacfwd(residual)(theta)

    return [optimizer.step(both, lambda: residual(point.theta.detach())) for _ in range(steps)]


def linear(rows: int, columns: int):
    draws = torch.Generator().manual_seed(rows)
    a = torch.randn(rows, columns, generator=draws, dtype=torch.float64)
    return a, torch.randn(rows, generator=draws, dtype=torch.float64)


def test_linear_least_squares():
    a, b = linear(20, 5)
    point = Point(*[0.0] * 5)
    reports = solve(LevenbergMarquardt(point, damping=1e-2), lambda theta: a @ theta - b, 10)
    torch.testing.assert_close(point.theta.detach(), torch.linalg.lstsq(a, b).solution, rtol=1e-10, atol=1e-12)
    assert reports[0].accepted
    assert reports[0].gradient_norm == pytest.approx(float((a.T @ b).norm()))
    assert all(r.loss_after <= r.loss_before for r in reports)


def test_underdetermined_rows_are_met():
    a, b = linear(4, 9)
    point = Point(*[0.0] * 9)
    solve(LevenbergMarquardt(point), lambda theta: a @ theta - b, 8)
    assert float((a @ point.theta.detach() - b).abs().max()) < 1e-10


@pytest.mark.parametrize("start", [(-1.2, 1.0), (5.0, -7.0)])
def test_rosenbrock(start):
    point = Point(*start)
    solve(LevenbergMarquardt(point), lambda x: torch.stack((10 * (x[1] - x[0] ** 2), 1 - x[0])), 60)
    torch.testing.assert_close(point.theta.detach(), torch.ones(2, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(6, 10), (10, 10), (30, 10)])
def test_step_solves_the_normal_equations_in_either_form(rows, columns):
    a, r = linear(rows, columns)
    a *= torch.logspace(-4, 2, columns, dtype=torch.float64)
    system = _System(r, a, floor=1e-3)
    assert system.dual == (rows < columns)
    square = a.square().sum(0)
    weight = torch.diag(square.clamp(min=1e-3 * float(square.max())))
    for damping in (1e-3, 1.0, 100.0):
        want = torch.linalg.solve(a.T @ a + damping * weight, -a.T @ r)
        assert system.damp(damping)
        torch.testing.assert_close(system.scale * system.solve(r), want, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(system.scale * system.solve(2 * r), 2 * want, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_predicted_fall_is_that_of_the_quadratic_model():
    a, r = linear(30, 10)
    point = Point(*[0.0] * 10)
    optimizer = LevenbergMarquardt(point, damping=1e-2)
    system = _System(r, a, floor=1e-3)
    trial = optimizer._trial_step(system, torch.zeros(10, dtype=torch.float64), lambda: r + a @ point.theta.detach())
    d = system.scale * trial.move
    assert trial.decrease == pytest.approx(float(0.5 * r @ r - 0.5 * (r + a @ d).square().sum()), rel=1e-9)
    torch.testing.assert_close(trial.move, system.solve(r), rtol=1e-9, atol=1e-12)  # a plane has no curvature


@torch.no_grad()
def test_acceleration_is_the_second_order_of_the_geodesic():
    """r = x + x^2/2 - 1/2, without damping: d = -r/r', and w = -d^2/(2 r') since r'' = 1."""
    point = Point(0.1)
    optimizer = LevenbergMarquardt(point, bend=10.0)

    def residual() -> Tensor:
        x = point.theta.detach()
        return x + x**2 / 2 - 0.5

    x, r = 0.1, 0.1 + 0.1**2 / 2 - 0.5
    system = _System(residual(), torch.tensor([[1 + x]], dtype=torch.float64), floor=1e-3)
    optimizer.damping = optimizer.least_damping
    trial = optimizer._trial_step(system, torch.tensor([x], dtype=torch.float64), residual)
    d = -r / (1 + x)
    assert float(system.scale * trial.move) == pytest.approx(d - d**2 / (2 * (1 + x)), rel=1e-9)


def test_network_fit_converges_and_resumes_bitwise():
    z = torch.linspace(-1, 1, 64, dtype=torch.float64)[:, None]
    target = torch.sin(3 * z[:, 0])
    still = torch.zeros_like(z), z.new_zeros(64, 1, 0)

    def train(network: MLP, optimizer: LevenbergMarquardt, steps: int) -> float:
        def both() -> tuple[Tensor, Tensor]:
            v, _, jacobian = parameter_jacobian(network, z, *still, 1.0, 0.0)
            return v - target, jacobian

        reports = [optimizer.step(both, lambda: network(z)[:, 0] - target) for _ in range(steps)]
        return reports[-1].loss_after

    straight = MLP(1, (8, 8))
    loss = train(straight, LevenbergMarquardt(straight), 30)
    assert loss < 1e-5

    first = MLP(1, (8, 8))
    optimizer = LevenbergMarquardt(first)
    train(first, optimizer, 13)
    second = MLP(1, (8, 8), generator=torch.Generator().manual_seed(5))
    second.load_state_dict(first.state_dict())
    resumed = LevenbergMarquardt(second)
    resumed.restore(json.loads(json.dumps(optimizer.state())))
    train(second, resumed, 17)
    for one, other in zip(second.parameters(), straight.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("trial", [float("nan"), float("inf"), 1e9])
def test_rejection_restores_the_parameters_bitwise(trial):
    network = MLP(2, (3,))
    before = parameters_to_vector(network.parameters()).detach().clone()
    storage = [p.data_ptr() for p in network.parameters()]
    z, still = torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, 2, 0, dtype=torch.float64)
    calls = []

    def both() -> tuple[Tensor, Tensor]:
        v, _, jacobian = parameter_jacobian(network, z, z, still, 1.0, 0.0)
        return v - 5.0, jacobian

    def residual() -> Tensor:
        calls.append(parameters_to_vector(network.parameters()).detach().clone())
        return torch.full((4,), trial, dtype=torch.float64)

    optimizer = LevenbergMarquardt(network, trials=3)
    report = optimizer.step(both, residual)
    assert not report.accepted
    assert report.loss_after == report.loss_before
    assert len(calls) == 6  # a probe and a trial each
    assert not any(torch.equal(theta, before) for theta in calls)
    assert torch.equal(parameters_to_vector(network.parameters()), before)
    assert [p.data_ptr() for p in network.parameters()] == storage
    assert report.damping == optimizer.damping == pytest.approx(2 * 4 * 8)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_nothing_to_do(value):
    point = Point(1.0, 2.0)
    report = solve(LevenbergMarquardt(point), lambda theta: theta * value, 1)[0]
    assert not report.accepted
    assert report.damping == 1.0
    assert point.theta.tolist() == [1.0, 2.0]


def test_wrong_settings():
    with pytest.raises(ValueError, match="float64"):
        LevenbergMarquardt(MLP(1, dtype=torch.float32))
    with pytest.raises(ValueError, match="damping"):
        LevenbergMarquardt(MLP(1), damping=-1.0)
    with pytest.raises(ValueError, match="trials"):
        LevenbergMarquardt(MLP(1), trials=0)
    with pytest.raises(ValueError, match="state"):
        LevenbergMarquardt(MLP(1)).restore({})
