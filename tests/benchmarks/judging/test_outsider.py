"""Models of other libraries and plain functions, judged as agents are."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from hacontrol_agents import AnalyticAgent
from hacontrol_benchmarks import Evaluation, evaluate
from hacontrol_benchmarks.judging.outsider import Outsider
from hacontrol_benchmarks.reporting.compare import compare_figure
from hacontrol_envs.errors import ActionError, ParameterError

SMALL = Evaluation(paths=8, points=64, max_steps=50)
TWO = {"dimension": 2}


def optimum(env):
    """What the optimum of the sampled problem does, as a function of the environment's observations."""
    inner = env.unwrapped
    best = inner.problem.solution(dt=inner.dt).policy

    def play(observation):
        return inner.from_physical(best(*inner.from_observation(observation)))

    return play


class Bare:
    """Takes nothing but an observation."""

    def __init__(self, play):
        self.play = play

    def predict(self, observation):
        return self.play(observation)


class WithState(Bare):
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        return self.play(observation), state


class Recurrent(Bare):
    """Insists on a memory, and on being told where episodes start."""

    def predict(self, observation, state, episode_start):
        assert state is None
        assert episode_start.shape == (len(observation) if observation.ndim == 2 else 1,)
        assert episode_start.all()
        return self.play(observation), "memory"


def alone(play):
    """The same for one observation at a time, as a list of numbers."""

    def one(observation):
        assert observation.ndim == 1
        return [float(part) for part in play(observation[None])[0]]

    return one


def batched(play):
    def many(observation):
        assert observation.ndim == 2
        return play(observation)

    return many


@pytest.mark.parametrize("wrap", [lambda f: f, alone, batched, Bare, WithState, Recurrent, lambda f: Bare(alone(f))])
@pytest.mark.parametrize(("id", "parameters"), [("LQR-v0", TWO), ("Merton-v0", {}), ("LQR-v0", {"horizon": 1.0})])
def test_the_optimum_in_any_clothes_loses_nothing(wrap, id, parameters):
    env = gym.make(id, **parameters)
    scores = evaluate(wrap(optimum(env)), env, SMALL)
    assert scores["policy_error_sampled"] < 1e-6  # observations are single precision
    assert abs(scores["value_loss"]) < 1e-11
    assert scores["value_error_visited"] is None
    assert scores["converged"] is None


def test_a_planted_error_is_found():
    env = gym.make("LQR-v0")
    play = optimum(env)
    scores = evaluate(lambda observation: 0.9 * play(observation), env, SMALL)
    assert scores["policy_error_sampled"] == pytest.approx(0.1, abs=1e-6)


def test_rows_are_not_mixed():
    """Divided by the largest of a batch, an action would depend on what else is asked: so each is asked alone."""
    env = gym.make("LQR-v0", **TWO)

    def play(observation):
        return -observation / max(1.0, np.abs(observation).max())

    def by_row(observation):
        return -observation / np.maximum(1.0, np.abs(observation).max(axis=-1, keepdims=True))

    mixed, apart = (evaluate(one, env, SMALL) for one in (play, by_row))
    assert mixed["value_loss"] == pytest.approx(apart["value_loss"], rel=1e-6)
    assert mixed["policy_error_visited"] == pytest.approx(apart["policy_error_visited"], rel=1e-6)


def test_a_policy_that_draws_is_judged_as_it_draws():
    env, rng = gym.make("LQR-v0"), np.random.default_rng(0)
    scores = evaluate(lambda observation: rng.uniform(-1, 1, observation.shape), env, SMALL)
    # E (a - a*)^2 = half^2 / 3 + E a*^2 where a is uniform and independent of the state
    a = env.unwrapped.problem.action
    best = env.unwrapped.problem.solution().policy
    x = np.random.default_rng(1).uniform(env.unwrapped.problem.state.from_unit(np.array([-1.0])), 0, (200_000, 1))
    size = np.mean(best(0.0, x) ** 2)
    half = (a.high - a.low)[0] / 2
    assert scores["policy_error_box"] == pytest.approx(np.sqrt(half**2 / 3 / size + 1), rel=0.25)


@pytest.mark.parametrize("kind", [PPO, SAC])
def test_a_model_of_stable_baselines3_is_judged(kind):
    env = gym.make("LQR-v0", **TWO)
    model = kind("MlpPolicy", env, device="cpu", seed=0)
    outsider = Outsider(model=model, env=env)
    x = np.array([[0.3, -0.2], [0.1, 0.9]])
    asked, _ = model.predict(env.unwrapped.to_observation(0.0, x), deterministic=True)
    assert outsider.policy(0.0, x) == pytest.approx(env.unwrapped.to_physical(asked), rel=1e-6)
    scores = evaluate(model, env, SMALL)
    assert scores["policy_error_box"] == evaluate(outsider, env, SMALL)["policy_error_box"]
    assert scores["value_loss"] > 0


def test_observations_are_normalised_as_the_model_was_trained():
    env = gym.make("LQR-v0")
    rows = VecNormalize(DummyVecEnv([lambda: gym.make("LQR-v0")]))
    model = PPO("MlpPolicy", rows, device="cpu", seed=0, n_steps=64)
    rows.obs_rms.mean, rows.obs_rms.var = np.array([0.5]), np.array([4.0])
    x = np.array([[0.3], [-0.8]])
    seen = (env.unwrapped.to_observation(0.0, x) - 0.5) / 2
    asked, _ = model.predict(seen, deterministic=True)
    played = Outsider(model=model, env=env).policy(0.0, x)
    assert played == pytest.approx(env.unwrapped.to_physical(asked), rel=1e-4)


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        (lambda o: 5 * np.ones_like(o), ActionError, r"box \[-1, 1\], got numbers from 5 to 5: clip"),
        (lambda o: np.nan * o, ActionError, "not finite"),
        (lambda o: np.zeros(3), ActionError, r"shape \(2,\), got shape \(3,\)"),
        (lambda o: o[..., :1], ActionError, r"shape \(2,\), got shape \(1,\)"),
        (lambda o: "left", ActionError, "real numbers; got str"),
        (lambda o: None, ActionError, "real numbers; got NoneType"),
        (lambda o: 1j * o, ActionError, "real numbers; got ndarray of type complex"),
        (lambda o: [[1.0], [1.0, 2.0]], ActionError, r"must return actions of shape \(2,\)"),
        (lambda o: o.foo, ParameterError, "does not play in this environment: .* no attribute 'foo'"),
        (Bare, ParameterError, "the class Bare: make one"),
        (object(), ParameterError, "be a function of observations; got a object"),
        (3, ParameterError, "got a int: 3"),
        (None, ParameterError, "got a NoneType"),
    ],
)
def test_what_does_not_play_is_refused_in_a_sentence(model, error, match):
    with pytest.raises(error, match=match) as caught:
        evaluate(model, gym.make("LQR-v0", **TWO), SMALL)
    assert len(str(caught.value)) < 700


def test_models_of_other_spaces_are_refused():
    env = gym.make("LQR-v0", **TWO)
    with pytest.raises(ParameterError, match="observation_space"):
        evaluate(PPO("MlpPolicy", gym.make("LQR-v0"), device="cpu", n_steps=64), env, SMALL)
    model = WithState(optimum(env))
    model.action_space = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
    with pytest.raises(ParameterError, match="action_space"):
        evaluate(model, env, SMALL)
    with pytest.raises(ParameterError, match="space"):
        evaluate(DQN("MlpPolicy", gym.make("CartPole-v1"), device="cpu"), env, SMALL)


def test_wrappers_that_change_nothing_are_looked_through_and_others_refused():
    env = gym.make("LQR-v0")
    play = optimum(env)
    for wrapped in (gym.wrappers.RecordEpisodeStatistics(env), gym.wrappers.TimeLimit(env, 10)):
        assert evaluate(play, wrapped, SMALL) == evaluate(play, env, SMALL)
    for model in (play, AnalyticAgent(env=env, seed=0)):
        with pytest.raises(ParameterError, match="TransformReward"):
            evaluate(model, gym.wrappers.TransformReward(env, lambda reward: 2 * reward), SMALL)
        for foreign in (gym.make("CartPole-v1"), None, "LQR-v0"):
            with pytest.raises(ParameterError, match="env must be an hacontrol environment"):
                evaluate(model, foreign, SMALL)
    rows = gym.make_vec("LQR-v0", num_envs=3)
    assert evaluate(play, rows, SMALL)["policy_error_sampled"] < 1e-6


def test_outsiders_are_drawn():
    env = gym.make("LQR-v0")
    figure = compare_figure({"optimum": optimum(env), "analytic": AnalyticAgent(env=env, seed=0)}, env)
    policy = figure.axes[1]
    theirs, ours = (line.get_ydata() for line in policy.lines[1:3])
    assert theirs == pytest.approx(ours, rel=0.1)


def test_outsiders_are_neither_trained_nor_saved(tmp_path):
    env = gym.make("LQR-v0")
    outsider = Outsider(model=optimum(env), env=env)
    for act in (outsider.learn, lambda: outsider.save(tmp_path / "a.safetensors")):
        with pytest.raises(ParameterError, match="its own library"):
            act()
