"""Calibrations that the tests of problems share."""

from __future__ import annotations

from hacontrol_envs import LQR, BrockMirman, FirmInvestment, Merton

COUPLED = {
    "state_matrix": [[-0.5, 0.2], [0.1, -0.3]],
    "control_matrix": [[1.0], [0.5]],
    "noise_matrix": [[0.3, 0.1, 0.0], [0.0, 0.2, 0.1]],
    "state_cost": [[1.0, 0.2], [0.2, 0.5]],
    "control_cost": 0.3,
}
THREE_ASSETS = {
    "expected_return": [0.06, 0.07, 0.08],
    "volatility": [[0.2, 0.0, 0.0, 0.05], [0.05, 0.15, 0.0, 0.0], [0.0, 0.02, 0.25, 0.1]],
}
CALIBRATIONS = {
    "LQR": LQR(),
    "LQR 2": LQR(dimension=2),
    "LQR 3": LQR(dimension=3),
    "LQR 10": LQR(dimension=10),
    "LQR short": LQR(horizon=0.05, terminal_cost=2.0),
    "LQR long": LQR(dimension=2, horizon=50.0),
    "LQR terminal cost": LQR(horizon=2.0, terminal_cost=[[3.0, 1.0], [1.0, 1.0]], dimension=2),
    "LQR without noise": LQR(noise_matrix=0.0),
    "LQR without noise or discount": LQR(horizon=2.0, noise_matrix=0.0, discount=0.0, terminal_cost=1.0),
    "LQR unstable": LQR(state_matrix=[[0.5, 0.3], [0.0, 0.2]]),
    "LQR coupled": LQR(**COUPLED),
    "LQR coupled, finite": LQR(**COUPLED, horizon=3.0, terminal_cost=1.0),
    "LQR more controls": LQR(
        dimension=1, control_matrix=[[1.0, 0.4, -0.2]], control_cost=[[1, 0.1, 0], [0.1, 2, 0], [0, 0, 1]]
    ),
    "LQR patient": LQR(discount=1e-4),
    "Merton": Merton(),
    "Merton log": Merton(risk_aversion=1.0),
    "Merton bold": Merton(risk_aversion=0.5, discount=0.2),
    "Merton cautious": Merton(risk_aversion=5.0),
    "Merton three assets": Merton(**THREE_ASSETS),
    "Merton finite": Merton(horizon=10.0, bequest=2.0),
    "Merton finite three assets": Merton(**THREE_ASSETS, horizon=5.0, risk_aversion=1.5),
    "Merton finite log": Merton(horizon=10.0, risk_aversion=1.0, bequest=0.5),
    "Merton short": Merton(horizon=0.1, risk_aversion=3.0),
    "Merton long": Merton(horizon=100.0),
    "Merton negative nu": Merton(risk_aversion=0.5, discount=0.01, horizon=5.0),
    "Merton without discount": Merton(horizon=3.0, discount=0.0, risk_aversion=3.0),
    "Merton short of the risky asset": Merton(expected_return=0.01),
    "Brock-Mirman": BrockMirman(),
    "Brock-Mirman, other parameters": BrockMirman(
        discount_factor=0.9, capital_share=0.5, productivity_persistence=-0.4, productivity_deviation=0.2
    ),
    "Firm": FirmInvestment(),
    "Firm smoothed": FirmInvestment(adjustment="smoothed"),
    "Firm with a wedge": FirmInvestment(resale_price=0.8),
    "Firm tight": FirmInvestment(capital_bounds=(1.0, 3.0), productivity_bound=0.3),
}
