"""Learners on problems that have no scale or no finite numbers: they learn what is right, or say what is wrong."""

import io
from dataclasses import dataclass, field

import gymnasium as gym
import msgspec
import numpy as np
import pytest
import torch
from rich.console import Console

from common.results import make_result
from hacontrol_agents import Agent, make_agent
from hacontrol_agents.core.verdicts import first_not_finite
from hacontrol_benchmarks import Evaluation, evaluate
from hacontrol_benchmarks.records.results import publish
from hacontrol_benchmarks.records.tasks import Task
from hacontrol_benchmarks.reporting.report import write_report
from hacontrol_benchmarks.reporting.scores import boards
from hacontrol_benchmarks.running.trial import run_task
from hacontrol_envs import ControlProblem, Domain, SDEEnv
from hacontrol_envs.arrays import namespace
from hacontrol_envs.errors import ConvergenceWarning, LearningError

TINY = {
    "npi": {"hidden": (8,), "visits": 16, "points": 64, "iterations": 8},
    "hjb-pinn": {"hidden": (8,), "visits": 16, "points": 64, "iterations": 8, "steps": 3},
    "ctq": {"hidden": (4,), "num_envs": 8, "steps": 2},
}


@dataclass(kw_only=True)
class Idle(ControlProblem):
    """dX = (a - X) dt + .2 dW, r = -weight a^2 + bent(x), g = -last x^2."""

    weight: float = 0.0
    last: float = 0.0
    bent: str = ""
    horizon: float | None = None

    state = Domain(("x",), [-1.0], [1.0])
    action = Domain(("a",), [-1.0], [1.0])
    discount, noise_dim, controlled_diffusion = 0.5, 1, False

    def initial_state(self, rng, size):
        return rng.uniform(-0.5, 0.5, (size, 1))

    def drift(self, t, x, a):
        return a - x

    def diffusion(self, t, x, a):
        return 0 * x[..., None] + 0.2

    def reward(self, t, x, a):
        xp = namespace(x)
        bent = {"": lambda x: 0 * x, "root": xp.sqrt, "infinite": lambda x: xp.where(abs(x) > 0.3, xp.inf, 0 * x)}[
            self.bent
        ]
        return bent(x[..., 0]) - self.weight * a[..., 0] ** 2

    def terminal_reward(self, x):
        return -self.last * x[..., 0] ** 2


def on(**parameters):
    problem = Idle(**parameters)
    return SDEEnv(problem, dt=0.1, scheme="euler", episode_steps=None if problem.horizon else 20)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", ["npi", "hjb-pinn"])
@pytest.mark.parametrize("parameters", [{}, {"weight": 0.5}, {"horizon": 1.0}])
def test_where_nothing_is_paid_the_value_is_zero(name, parameters):
    """r = 0, and r = -a^2 / 2, whose best is 0, too: rewards at the centre of the action box give no scale."""
    agent = make_agent(name, env=on(**parameters), seed=0, **TINY[name]).learn()
    x = np.linspace(-1, 1, 5)[:, None]
    assert np.abs(agent.value(0.0, x)).max() < 1e-4
    assert np.isfinite(agent.policy(0.0, x)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", ["npi", "hjb-pinn"])
def test_a_terminal_reward_gives_the_scale_where_others_do_not(name):
    """V = -P x^2 - c and a = -2 P x with P' = (rho + 2) P + 2 P^2 and c' = rho c - .04 P, here by Euler's method."""
    problem = Idle(weight=0.5, last=1.0, horizon=1.0)
    settings = {**TINY[name], "hidden": (8, 8), "points": 256, "visits": 128, "iterations": 10}
    agent = make_agent(name, env=SDEEnv(problem, dt=0.1, scheme="euler"), seed=0, **settings).learn()
    P, c, steps = 1.0, 0.0, 20_000
    for _ in range(steps):
        P, c = P - (2.5 * P + 2 * P**2) / steps, c - (0.5 * c - 0.04 * P) / steps
    x = np.linspace(-0.5, 0.5, 5)[:, None]
    assert agent.policy(np.zeros(5), x)[:, 0] == pytest.approx(-2 * P * x[:, 0], abs=5e-3)
    assert agent.value(np.zeros(5), x) == pytest.approx(-P * x[:, 0] ** 2 - c, abs=2e-3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bent", ["root", "infinite"])
@pytest.mark.parametrize("name", TINY)
def test_a_reward_that_is_not_finite_is_named(name, bent, tmp_path):
    agent = make_agent(name, env=on(bent=bent, weight=1.0), seed=0, **TINY[name])
    path = tmp_path / "agent.safetensors"
    with pytest.raises(
        LearningError, match=f"{name} on Idle has not learnt: not finite in iteration 1: .*Try another seed"
    ):
        agent.learn(2000, checkpoint=path)
    assert not path.exists()
    assert agent.converged is None


@dataclass(kw_only=True)
class Diverging(Agent):
    """Doubles a weight in every iteration; from `until` on, something is not finite."""

    until: int = 3
    what: str = "figure"
    name = "diverging-in-tests"
    weight: float = field(default=1.0, init=False)

    def policy(self, t, x):
        return 0 * x + (np.nan if self.what == "policy" and self.weight >= 2.0**self.until else 0.0)

    def value(self, t, x):
        return 0 * x[..., 0] + (np.inf if self.what == "value" and self.weight >= 2.0**self.until else 0.0)

    def _learn(self, budget, report):
        for _ in range(5):
            self.weight *= 2
            bad = self.weight >= 2.0**self.until
            if self.what == "raised" and bad:
                raise OverflowError("math range error")
            report(0.1, loss=np.nan if bad and self.what == "figure" else 1.0)

    def _met(self):
        return False

    def _tensors(self):
        bad = self.what == "tensor" and self.weight >= 2.0**self.until
        return {"weight": torch.tensor([self.weight, np.nan if bad else 0.0], dtype=torch.float64)}

    def _restore(self, tensors, record):
        self.weight = float(tensors["weight"][0])


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("figure", "loss = nan"),
        ("tensor", r"weight \(1 of 2 entries\)"),
        ("policy", r"policy \(64 of 64"),
        ("value", r"value \(64 of 64"),
        ("raised", "OverflowError"),
    ],
)
def test_the_last_finite_checkpoint_remains(what, named, tmp_path):
    path = tmp_path / "agent.safetensors"
    agent = Diverging(env=gym.make("LQR-v0"), seed=0, what=what)
    with pytest.raises(LearningError, match=f"in iteration 3: {named}"):
        agent.learn(checkpoint=path)
    assert Agent.load(path, gym.make("LQR-v0")).weight == 4.0
    assert len(Agent.load(path, gym.make("LQR-v0")).history) == 2


def test_what_is_not_finite_is_not_saved_and_not_played(tmp_path):
    env = gym.make("LQR-v0")
    agent = Diverging(env=env, seed=0, what="tensor")
    agent.weight = 2.0**9
    path = tmp_path / "agent.safetensors"
    with pytest.raises(LearningError, match="not saved"):
        agent.save(path)
    assert not path.exists()
    agent.what = "policy"
    with pytest.raises(LearningError, match="not finite"):
        agent.predict(np.zeros(1, np.float32))
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(agent, env, Evaluation(paths=8, points=64, max_steps=20))
    agent.what = "value"
    with pytest.raises(FloatingPointError, match="value is not finite"):
        evaluate(agent, env, Evaluation(paths=8, points=64, max_steps=20))


@pytest.mark.parametrize("what", ["figure", "tensor", "policy", "value", "raised"])
def test_a_learner_that_diverges_fails_and_is_not_ranked(what, tmp_path):
    task = Task(title="LQR-v0", env="LQR-v0", label="bad", agent="diverging-in-tests", hyperparameters={"what": what})
    result = run_task(task, tmp_path)
    assert result.status == "failed"
    assert "not finite" in result.message
    (board,) = boards([result, make_result(label="good", loss=0.9)])
    assert [(row.agent, row.rank) for row in board.rows] == [("good", 1), ("bad", 0)]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"a": 1.0, "b": [1, {"c": np.inf}]}, "b[1].c = inf"),
        ({"a": torch.tensor([1.0, np.nan])}, "a (1 of 2 entries)"),
        ({"a": np.float32(np.nan)}, "a = nan"),
        ({"a": 10**400, "b": None, "c": "nan", "d": True, "e": torch.tensor([1]), "f": np.zeros(0)}, None),
    ],
)
def test_the_first_that_is_not_finite_is_named(values, named):
    assert first_not_finite(values) == named


def test_a_rule_that_was_not_met_is_a_warning_unless_the_user_stopped():
    def fresh(**settings):
        return Diverging(env=gym.make("LQR-v0"), seed=0, until=99, **settings)

    assert fresh().converged is None
    with pytest.warns(ConvergenceWarning, match="not certified after 5 iterations .*loss 1.*rule of having learnt"):
        agent = fresh().learn()
    assert agent.converged is False
    assert agent.ending == "not certified"
    assert fresh().learn(100).converged is False
    assert fresh().learn(callback=lambda agent: len(agent.history) < 5).converged is False
    assert make_agent("random", env=gym.make("LQR-v0"), seed=0).learn().converged is None


@pytest.mark.slow
@pytest.mark.parametrize(("risk_aversion", "iterations", "bound"), [(0.5, None, 5e-4), (20.0, 30, 1e-4)])
def test_a_policy_is_right_where_values_have_many_sizes(risk_aversion, iterations, bound):
    """At risk aversion 20 values span 38 orders of magnitude over the box; at .5 a hundredth of the value comes from
    wealth beyond e^98, where V is not learnt before rare paths have been seen to go there."""
    env = gym.make("Merton-v0", risk_aversion=risk_aversion)
    agent = make_agent("npi", env=env, seed=0, iterations=iterations, visits=128 if iterations else 512).learn()
    assert agent.ending == "certified"
    assert evaluate(agent, env, Evaluation(paths=8, points=128, max_steps=50))["policy_error_visited"] < bound


def test_a_network_that_cannot_hold_the_value_says_so(tmp_path):
    env = gym.make("LQR-v0", state_cost=5.0)
    with pytest.warns(ConvergenceWarning, match="npi on LQR is not certified .* equation leaves .* of the value open"):
        agent = make_agent("npi", env=env, seed=0, iterations=8, visits=64, hidden=(2,)).learn()
    known = Agent.load(agent.save(tmp_path / "agent.safetensors"))
    assert (known.ending, known.reason) == ("not certified", agent.reason)
    assert known.converged is False


def test_states_that_would_grow_are_held_back():
    """Without control costs grow faster than they are discounted: 2 * 0.29 > 0.1."""
    env = gym.make("LQR-v0", state_matrix=0.29)
    agent = make_agent("npi", env=env, seed=0, iterations=20, visits=128).learn()
    x = np.linspace(-1.0, 1.0, 20)[:, None]
    best = env.unwrapped.problem.solution().policy(0.0, x)
    assert np.abs(agent.policy(0.0, x) - best).max() < 1e-3 * np.abs(best).max()


@pytest.mark.slow
def test_a_value_that_is_the_optimum_has_converged_and_says_so_in_a_file(tmp_path):
    env = gym.make("Merton-v0")
    agent = make_agent("npi", env=env, seed=0, iterations=12, visits=64, hidden=(16,)).learn()
    scores = evaluate(agent, env, Evaluation(paths=8, points=128, max_steps=50))
    assert scores["converged"] == 1.0
    assert scores["policy_error_visited"] < 1e-3
    assert Agent.load(agent.save(tmp_path / "agent.safetensors")).converged is True


DOUBT = "not certified", "it has no certificate of its own"


def test_a_report_says_how_many_runs_met_the_rule(tmp_path):
    said = {"npi": (1.0, 1.0, 0.0), "done": (1.0, 1.0, 1.0), "ppo": (None, None, None)}
    for label, verdicts in said.items():
        for seed, verdict in enumerate(verdicts):
            publish(make_result(seed, 0.1, label, converged=verdict), tmp_path)
    publish(make_result(0, 0.1, "old"), tmp_path)
    page = write_report(tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    for text in (markdown, page.read_text()):
        assert "npi (2 of 3 converged)" in text
        assert text.count(" converged)") == 1


def test_a_report_gives_the_reasons_of_runs_that_do_not_end_certified(tmp_path):
    """Where the learner can certify what it has learnt, as "converged" says; older results have no ending."""
    told = [("npi", 1.0, "certified", ""), ("late", 0.0, "not certified", "learn on <b>"), ("ppo", None, *DOUBT)]
    for label, met, ending, reason in told:
        result = make_result(0, 0.1, label, converged=met)
        publish(msgspec.structs.replace(result, ending=ending, reason=reason), tmp_path)
    publish(make_result(0, 0.1, "old", converged=1.0), tmp_path)
    console = Console(file=io.StringIO(), width=200)
    page = write_report(tmp_path, console)
    text = console.file.getvalue()
    assert "not certified: late, seed 0: learn on <b>" in text
    assert text.count("not certified") == 1
    assert (tmp_path / "report.md").read_text().count("not certified") == 1
    assert "late, seed 0: learn on &lt;b&gt;" in page.read_text()
