"""The checkers pass what is right and catch what is wrong: every promise has a mutant that breaks it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from hacontrol_envs import LQR, ControlProblem, Domain, Merton, registered_ids
from hacontrol_envs.arrays import like
from hacontrol_envs.checks import check_problem, check_vector_env
from hacontrol_envs.checks.episodes import play, require_equal
from hacontrol_envs.checks.watched import Watched
from hacontrol_envs.errors import ContractError, ParameterError

pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # see test_problems.py

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED

# Problems


def lqr(**methods):
    """An LQR with some of its methods replaced. `transition` changes (x_next, reward) of an exact step."""
    return type("MutantLQR", (LQR,), _with_transition(LQR, methods))


def merton(**methods):
    """The same of a Merton problem."""
    return type("MutantMerton", (Merton,), _with_transition(Merton, methods))


def _with_transition(base, methods):
    change = methods.pop("transition", None)
    if change is not None:

        def exact_transition(self, t, x, a, dt, noise):
            return change(self, x, a, dt, noise, *base.exact_transition(self, t, x, a, dt, noise))

        methods["exact_transition"] = exact_transition
    return methods


def solved(change, base=LQR, *, sampled=False):
    """`solution` with the continuous or the sampled-data one changed."""

    def solution(self, dt=None):
        found = base.solution(self, dt)
        return change(self, found) if (dt is not None) is sampled else found

    return solution


def scaled_value(c):
    """A solution whose value, with all its derivatives, is c times as large."""

    def change(self, found):
        jet = lambda t, x: type(found.jet(t, x))(*(c * part for part in found.jet(t, x)))  # noqa: E731
        return replace(found, value=lambda t, x: c * found.value(t, x), jet=jet)

    return change


def shifted_policy(self, found, by=1e-4):
    return replace(found, policy=lambda t, x: found.policy(t, x) + by)


def shifted_value(self, found, by=1e-6):
    return replace(found, value=lambda t, x: found.value(t, x) + by)


def suboptimal(self, dt=None, *, jet=True):
    """A constant Merton policy a little off with its own value, which solves its own linear equation exactly."""
    best = Merton.solution(self)
    off_by = np.array([0.95, 1.05])
    a = best.policy(0.0, np.ones(1)) * off_by
    factor = self.constant_action_value(np.ones(1), a) / best.value(0.0, np.ones(1))
    off = scaled_value(factor)(self, best)
    return replace(off, policy=lambda t, x: best.policy(t, x) * like(off_by, x), jet=off.jet if jet else None)


def jet_part(**factors):
    """A solution with parts of its jet multiplied."""

    def change(self, found):
        def jet(t, x):
            parts = found.jet(t, x)._asdict()
            return type(found.jet(t, x))(**{name: factors.get(name, 1) * part for name, part in parts.items()})

        return replace(found, jet=jet)

    return change


def of_another_discount(self, found):
    return LQR(discount=0.11).solution()


def continuous_policy(self, found):
    return replace(found, policy=LQR.solution(self).policy)


def in_place_drift(self, t, x, a):
    x *= 1.0001
    return LQR.drift(self, t, x, a)


def independent_noise(self, x, a, dt, noise, x_next, reward):
    """Forgets that noise decays within the step: D sqrt(dt) instead of Van Loan's covariance."""
    held = self._held(dt)
    return x_next + noise @ (np.sqrt(dt) * self.D - held.noise).T, reward


def no_ito_term(self, x, a, dt, noise, x_next, reward):
    return x_next * np.exp(((a[..., :1] @ self.sigma) ** 2).sum(axis=-1, keepdims=True) * dt / 2), reward


def undiscounted_within_step(self, x, a, dt, noise, x_next, reward):
    return x_next, reward * self.discount * dt / -np.expm1(-self.discount * dt)


def torch_branch(self, t, x, a):
    return LQR.reward(self, t, x, a) + (0.0 if type(x) is np.ndarray else 1e-6)


def narrow(self):
    return Domain(["a"], [-0.1], [0.1])


class Forgetful(LQR):
    """Forgets its noise in `parameters`."""

    @property
    def parameters(self):
        return {name: given for name, given in super().parameters.items() if name != "noise_matrix"}


@dataclass(frozen=True, kw_only=True)
class Drifting(ControlProblem):
    """Somebody else's problem, with nothing known about it: dX = a X dt + X dW / 10, one scale logarithmic."""

    discount: float = 0.3
    noise_dim = 2
    horizon = None
    state = Domain(["w", "y"], [0.5, -1.0], [2.0, 1.0], ["log", "linear"])
    action = Domain(["a"], [-1.0], [1.0])

    def drift(self, t, x, a):
        return a * x

    def diffusion(self, t, x, a):
        return 0.1 * x[..., None] * (1 + 0 * x[..., None, :])

    def reward(self, t, x, a):
        return x[..., 0] - a[..., 0] ** 2

    def initial_state(self, rng, size):
        return np.stack([rng.uniform(0.5, 2.0, size), rng.normal(size=size)], axis=1)


PROBLEM_MUTANTS = {
    "drift sign wrong in exact_step": (
        lqr(transition=lambda self, x, a, dt, z, y, r: (2 * x - y, r)),
        {},
        "mean of exact_step",
    ),
    "noise of exact_step too large": (
        lqr(transition=lambda self, x, a, dt, z, y, r: (y + 0.05 * z, r)),
        {},
        "covariance of exact",
    ),
    "covariance of exact_step without Van Loan": (lqr(transition=independent_noise), {}, "covariance of exact_step"),
    "no Ito term in exact_step": (merton(transition=no_ito_term), {}, "mean of exact_step"),
    "missing dt factor in exact_reward": (
        lqr(transition=lambda self, x, a, dt, z, y, r: (y, r / dt)),
        {},
        "exact_reward against",
    ),
    "no discounting in exact_reward": (merton(transition=undiscounted_within_step), {}, "exact_reward against"),
    "exact_step is not exact_transition": (
        lqr(exact_step=lambda self, t, x, a, dt, z: x + 1e-9),
        {},
        "exact_transition against exact_step",
    ),
    "exact_reward unknown to exact_transition": (
        lqr(exact_reward=lambda *_: None),
        {},
        "exact_transition and exact_reward",
    ),
    "missing 1/2 in value": (
        lqr(solution=solved(lambda s, f: replace(f, value=lambda t, x: 2 * f.value(t, x)))),
        {},
        "jet.v against value",
    ),
    "missing 1/2 in value and jet": (lqr(solution=solved(scaled_value(2.0))), {}, "HJB residual"),
    "value off by a millionth": (lqr(solution=solved(scaled_value(1 + 1e-6))), {}, "HJB residual"),
    "value without jet wrong": (
        lqr(solution=solved(lambda s, f: replace(scaled_value(1.5)(s, f), jet=None))),
        {},
        "Dynkin",
    ),
    "wrong reward": (lqr(reward=lambda self, t, x, a: 2 * LQR.reward(self, t, x, a)), {}, "exact_reward against"),
    "wrong reward without exact law": (
        lqr(
            reward=lambda self, t, x, a: 1.01 * LQR.reward(self, t, x, a),
            exact_transition=lambda *_: (None, None),
            exact_step=lambda *_: None,
            exact_reward=lambda *_: None,
        ),
        {},
        "HJB residual",
    ),
    "wrong diffusion": (
        lqr(diffusion=lambda self, t, x, a: 1.1 * LQR.diffusion(self, t, x, a)),
        {},
        "covariance of exact_step",
    ),
    "policy shifted": (lqr(solution=solved(shifted_policy)), {}, "HJB residual"),
    "the value of another policy": (merton(solution=suboptimal), {}, "Hamiltonian of the policy"),
    "policy outside the action box": (lqr(action=property(narrow)), {}, "leaves the action box"),
    "wrong v_x": (lqr(solution=solved(jet_part(v_x=1.001))), {}, "jet.v_x along x"),
    "wrong v_xx": (merton(solution=solved(jet_part(v_xx=1.001), Merton)), {}, "jet.v_xx along wealth"),
    "wrong v_t": (lqr(solution=solved(jet_part(v_t=-1))), {"horizon": 1.0}, "jet.v_t against"),
    "wrong discount": (lqr(solution=solved(of_another_discount)), {}, "HJB residual"),
    "wrong terminal condition": (
        lqr(terminal_reward=lambda self, x: 2 * LQR.terminal_reward(self, x)),
        {"horizon": 1.0, "terminal_cost": 1.0},
        "value\\(T, x\\)",
    ),
    "wrong K in the sampled solution": (
        lqr(solution=solved(continuous_policy, sampled=True)),
        {},
        "Bellman equation of solution",
    ),
    "the sampled value of another policy": (
        merton(solution=lambda s, dt=None: suboptimal(s) if dt else Merton.solution(s)),
        {},
        "policy of solution\\(dt\\)",
    ),
    "sampled above continuous": (
        merton(solution=lambda s, dt=None: Merton.solution(s) if dt else suboptimal(s, jet=False)),
        {},
        "above solution\\(\\)",
    ),
    "wrong c in the sampled solution": (
        lqr(solution=solved(shifted_value, sampled=True)),
        {},
        "Bellman equation of solution",
    ),
    "wrong c in the sampled solution in ten dimensions": (
        lqr(solution=solved(partial(shifted_value, by=1e-4), sampled=True)),
        {"dimension": 10},
        "Bellman equation of solution",
    ),
    "batch-dependent drift": (
        lqr(drift=lambda self, t, x, a: LQR.drift(self, t, x, a) + 1e-15 * np.size(x)),
        {},
        "A row's result must not",
    ),
    "rows mixed by BLAS": (
        lqr(drift=lambda self, t, x, a: x @ self.A.T + a @ self.B.T),
        {"dimension": 10},
        "A row's result must not",
    ),
    "in-place modification": (lqr(drift=in_place_drift), {}, "changed its argument"),
    "parameters that JSON cannot hold": (
        lqr(parameters=property(lambda self: {"state_cost": np.ones((1, 1))})),
        {},
        "JSON serializable",
    ),
    "parameters that are not all": (Forgetful, {"noise_matrix": 0.1}, "has another"),
    "wrong controlled_diffusion": (merton(controlled_diffusion=False), {}, "controlled_diffusion is False"),
    "single precision": (lqr(reward=lambda self, t, x, a: np.float32(LQR.reward(self, t, x, a))), {}, "dtype float32"),
    "diffusion without its noise axis": (lqr(diffusion=lambda self, t, x, a: 0.3 + 0 * x), {}, "diffusion has shape"),
    "batch axes not taken": (lqr(drift=lambda self, t, x, a: np.stack([x[:, 0]], axis=1)), {}, "drift has shape"),
    "not finite": (merton(reward=lambda self, t, x, a: np.log(x[..., 0] - 1)), {}, "reward is not finite"),
    "global random numbers": (
        lqr(initial_state=lambda self, rng, size: np.random.default_rng().normal(size=(size, 1))),
        {},
        "not reproducible",
    ),
    "start outside the logarithm": (
        merton(initial_state=lambda self, rng, size: rng.normal(size=(size, 1))),
        {},
        "logarithmic scale",
    ),
    "start of the wrong shape": (
        lqr(initial_state=lambda self, rng, size: rng.normal(size=size)),
        {},
        "initial_state has shape",
    ),
    "NumPy only": (
        lqr(reward=lambda self, t, x, a: -np.square(np.asarray(x)[..., 0])),
        {},
        "reward of torch tensors is",
    ),
    "torch differs": (lqr(reward=torch_branch), {}, "reward on torch against NumPy"),
    "closed form with an error": (lqr(solution=solved(lambda s, f: replace(f, error=1.0))), {}, "solution.error"),
    "no source": (lqr(solution=solved(lambda s, f: replace(f, source=""))), {}, "solution.source is empty"),
    "value of the wrong shape": (
        lqr(solution=solved(lambda s, f: replace(f, value=lambda t, x: f.value(t, x)[..., None]))),
        {},
        "value has shape",
    ),
    "solution raises": (lqr(solution=lambda self, dt=None: 1 / 0), {}, "ZeroDivisionError"),
    "no discount": (lqr(discount=0.0), {}, "infinite horizon needs discount"),
    "noise_dim is a float": (lqr(noise_dim=1.0), {}, "noise_dim must be a positive integer"),
    "state is not a Domain": (type("Stateless", (Drifting,), {"state": None}), {}, "state must be a Domain"),
}


def build(kind, parameters):
    """The mutant, class attributes outranking the instance's fields."""
    problem = kind(**parameters)
    for name in ("discount",):
        if name in vars(kind):
            object.__setattr__(problem, name, vars(kind)[name])
    return problem


@pytest.mark.parametrize("name", PROBLEM_MUTANTS)
def test_check_problem_catches(name):
    kind, parameters, words = PROBLEM_MUTANTS[name]
    with pytest.raises(ContractError, match=words):
        check_problem(build(kind, parameters))


def test_check_problem_passes_a_problem_without_extras():
    check_problem(Drifting())


# Vector environments


class Walk(VectorEnv):
    """A random walk that ends outside [-2, 2], and is cut off after 15 steps. The mutants change its methods."""

    def __init__(self, num_envs, autoreset_mode=NEXT_STEP, render_mode=None):
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {"render_modes": ["rgb_array"], "autoreset_mode": autoreset_mode}
        self.mode = autoreset_mode
        self.single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.x, self.age = np.zeros(num_envs), np.zeros(num_envs, dtype=int)
        self.ended = np.zeros(num_envs, dtype=bool)
        self.rngs = [np.random.default_rng() for _ in range(num_envs)]

    def seed(self, seed):
        seeds = [None] * self.num_envs if seed is None else seed
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seeds
        for i, one in enumerate(seeds):
            if one is not None:
                self.rngs[i] = np.random.default_rng(one)

    def draw(self, row):
        return self.rngs[row].normal()

    def start(self, rows):
        for i in np.flatnonzero(rows):
            self.x[i], self.age[i], self.ended[i] = 0.3 * self.draw(i), 0, False

    def observe(self):
        return np.stack([self.x, self.age / 15], axis=1).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        self.seed(seed)
        self.start((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        return self.observe(), {}

    def move(self, actions):
        for i in range(self.num_envs):
            self.x[i] += 0.3 * actions[i, 0] + 0.5 * self.draw(i)
        self.age += 1
        return -(self.x**2)

    def step(self, actions):
        fake = self.ended.copy()
        x, age, live = self.x.copy(), self.age.copy(), ~fake
        states = [rng.bit_generator.state for rng in self.rngs]
        reward = self.move(actions)
        for i in np.flatnonzero(fake):
            self.x[i], self.age[i], self.rngs[i].bit_generator.state = x[i], age[i], states[i]
        reward[fake] = self.fake_reward()
        self.restart(fake)
        terminated, truncated = (np.abs(self.x) > 2) & live, (self.age >= 15) & live
        over, infos = terminated | truncated, {}
        if self.mode is SAME_STEP:
            infos = self.finish(over)
        else:
            self.ended = over.copy()
        return self.observe(), reward, terminated, truncated, infos

    def fake_reward(self):
        return 0.0

    def restart(self, rows):
        self.start(rows)

    def finish(self, over):
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over):
            final[i] = self.observe()[i]
        self.start(over)
        return (
            {"final_obs": final, "_final_obs": over, "final_info": {}, "_final_info": over.copy()} if over.any() else {}
        )

    def render(self):
        return (np.zeros((4, 4, 3), dtype=np.uint8),) * self.num_envs if self.render_mode else None


def walk(**methods):
    return type("MutantWalk", (Walk,), methods)


def after(name, change):
    """A Walk whose method `name` has its result changed by `change(self, result)`."""
    return walk(**{name: lambda self, *args, **kwargs: change(self, getattr(Walk, name)(self, *args, **kwargs))})


def stepped(**changes):
    """A Walk with parts of `step`'s result changed, each by `change(self, part)`."""
    names = ("obs", "reward", "terminated", "truncated", "infos")

    def change(self, result):
        return tuple(
            changes.get(name, lambda self, part: part)(self, part) for name, part in zip(names, result, strict=True)
        )

    return after("step", change)


def reused(name, index):
    """A Walk that hands out the same array every time in one place of `step`'s result."""

    def hand_out(self, part):
        if not hasattr(self, name):
            setattr(self, name, part.copy())
        getattr(self, name)[...] = part
        return getattr(self, name)

    return stepped(**{index: hand_out})


def init(**attributes):
    """A Walk with attributes made by `make(self)` after its constructor."""

    def construct(self, *args, **kwargs):
        Walk.__init__(self, *args, **kwargs)
        for name, make in attributes.items():
            setattr(self, name, make(self))

    return walk(__init__=construct)


def lost_final_obs(self, over):
    self.start(over)
    return {}


def final_obs_of_the_next_episode(self, over):
    infos = Walk.finish(self, over)
    for i in np.flatnonzero(over):
        infos["final_obs"][i] = self.observe()[i]
    return infos


def swapped_under_same_step(self, result):
    obs, reward, terminated, truncated, infos = result
    return (obs, reward, truncated, terminated, infos) if self.mode is SAME_STEP else result


def everyone(self, *, seed=None, options=None):
    return Walk.reset(self, seed=seed)


def everyone_draws(self, *, seed=None, options=None):
    if options:
        for i in range(self.num_envs):
            self.draw(i)
    return Walk.reset(self, seed=seed, options=options)


def coupled(self, actions):
    return Walk.move(self, actions + 1e-3 * actions.mean())


def scribbling(self, actions):
    reward = Walk.move(self, actions)
    actions *= 0
    return reward


def size_matters(self, row):
    return self.rngs[row].normal(size=self.num_envs)[0]


def alias(self):
    """Observations that are the state itself."""
    if not hasattr(self, "buffer"):
        self.buffer = np.zeros((self.num_envs, 2), dtype=np.float32)
    view = self.buffer[:]
    view[:, 0], view[:, 1] = self.x, self.age / 15
    return view


WALK_MUTANTS = {
    "lost final observations": (walk(finish=lost_final_obs), "infos\\['_final_obs'\\]"),
    "final observation of the next episode": (
        walk(finish=final_obs_of_the_next_episode),
        "do not depend on the autoreset mode",
    ),
    "no final_info": (
        after("finish", lambda s, infos: {k: v for k, v in infos.items() if "info" not in k}),
        "final_info",
    ),
    "mask of final_obs too wide": (
        after("finish", lambda s, infos: infos | {"_final_obs": np.ones(s.num_envs, dtype=bool)}),
        "infos\\['_final_obs'\\] is",
    ),
    "final observation cut in half": (
        after(
            "finish", lambda s, i: i | {"final_obs": [o if o is None else o[:1] for o in i["final_obs"]]} if i else i
        ),
        "not in single_observation_space",
    ),
    "flags swapped under SAME_STEP": (after("step", swapped_under_same_step), "do not depend on the autoreset mode"),
    "generator shared among rows": (walk(draw=lambda self, row: self.rngs[0].normal()), "against"),
    "draws depend on the number of rows": (walk(draw=size_matters), "3 rows against 5 rows"),
    "rows coupled by their actions": (walk(move=coupled), "against"),
    "observation buffer reused": (reused("kept", "obs"), "shares memory"),
    "observation is a view of the state": (walk(observe=alias), "shares memory"),
    "reward buffer reused": (reused("kept", "reward"), "shares memory"),
    "flag buffer reused": (reused("kept", "truncated"), "shares memory"),
    "caller's array kept in use": (
        after("step", lambda s, r: (s.__dict__.update(x=r[1]), r)[1]),
        "changed later|overwrites|against",
    ),
    "actions changed": (walk(move=scribbling), "changed the actions"),
    "observations in double precision": (after("observe", lambda s, obs: obs.astype(float)), "float64"),
    "observations of the wrong shape": (after("observe", lambda s, obs: obs[:, :1]), "shape \\(3, 1\\)"),
    "observations outside the space": (
        init(
            observation_space=lambda s: Box(-1.0, 1.0, (s.num_envs, 2), np.float32),
            single_observation_space=lambda s: Box(-1.0, 1.0, (2,), np.float32),
        ),
        "outside observation_space",
    ),
    "rewards in single precision": (
        stepped(reward=lambda s, r: r.astype(np.float32)),
        "rewards as an array of float64",
    ),
    "rewards of the wrong shape": (stepped(reward=lambda s, r: r[:, None]), "rewards as an array"),
    "rewards not finite": (stepped(reward=lambda s, r: np.log(r)), "not finite"),
    "flags are numbers": (stepped(terminated=lambda s, f: f.astype(int)), "terminations as an array of bool"),
    "flags are a list": (stepped(truncated=lambda s, f: f.tolist()), "truncations as an array of bool"),
    "infos are a list": (stepped(infos=lambda s, i: [i]), "dict of infos"),
    "reset_mask resets everyone": (walk(reset=everyone), "Rows outside the mask"),
    "reset_mask uses everyone's random numbers": (
        walk(reset=everyone_draws),
        "Rows outside the mask|go on|autoreset mode",
    ),
    "NEXT_STEP pays for the reset": (walk(fake_reward=lambda self: 1.0), "the resetting step reported rewards"),
    "NEXT_STEP does not reset": (walk(restart=lambda self, rows: None), "autoreset mode|against|ends"),
    "seed ignored": (walk(seed=lambda self, seed: None), "two runs after reset"),
    "seed always the same": (
        walk(seed=lambda self, seed: Walk.seed(self, 5 if isinstance(seed, int) else seed)),
        "against|two seeds",
    ),
    "seed constant for every row list": (
        walk(seed=lambda self, seed: Walk.seed(self, None if seed is None else [5] * self.num_envs)),
        "two seeds",
    ),
    "seed 0 ignored": (walk(seed=lambda self, seed: Walk.seed(self, seed or None)), "reset\\(seed=0\\)"),
    "seeded alike in every row": (
        walk(seed=lambda self, seed: Walk.seed(self, [seed] * self.num_envs if isinstance(seed, int) else seed)),
        "Row i is seeded",
    ),
    "list of seeds ignored": (
        walk(seed=lambda self, seed: Walk.seed(self, seed if isinstance(seed, int) else None)),
        "s \\+ 1",
    ),
    "reset() starts all over": (walk(seed=lambda self, seed: Walk.seed(self, 0 if seed is None else seed)), "repeats"),
    "autoreset mode not declared": (init(metadata=lambda s: {}), "autoreset_mode"),
    "autoreset mode is a string": (init(metadata=lambda s: {"autoreset_mode": s.mode.value}), "autoreset_mode"),
    "action space not batched": (init(action_space=lambda s: s.single_action_space), "action_space is"),
    "one frame for all rows": (walk(render=lambda self: (np.zeros((4, 4, 3), dtype=np.uint8),)), "one for each row"),
    "frames of floats": (walk(render=lambda self: (np.zeros((4, 4, 3)),) * self.num_envs), "uint8"),
}


def test_check_vector_env_passes_the_walk():
    check_vector_env(Walk, steps=100)
    check_vector_env(Walk, steps=60, render_mode="rgb_array", num_envs=4, seed=3)


@pytest.mark.parametrize("name", WALK_MUTANTS)
def test_check_vector_env_catches(name):
    mutant, words = WALK_MUTANTS[name]
    with pytest.raises(ContractError, match=words), np.errstate(all="ignore"):
        check_vector_env(mutant, steps=60, render_mode="rgb_array" if "rame" in name else None)


def test_check_vector_env_compares_with_single_environments():
    def vector(num_envs, autoreset_mode, gravity=10.0):
        envs = [partial(gym.make, "Pendulum-v1", max_episode_steps=20, g=gravity)] * num_envs
        return SyncVectorEnv(envs, autoreset_mode=autoreset_mode)

    single = partial(gym.make, "Pendulum-v1", max_episode_steps=20)
    check_vector_env(vector, single=single, steps=60)
    with pytest.raises(ContractError, match="against single ones"):
        check_vector_env(vector, single=single, steps=60, gravity=10.01)


def test_check_vector_env_needs_episodes_that_end():
    with pytest.raises(ParameterError, match="no episode ended within 5 steps"):
        check_vector_env(Walk, steps=5)


@pytest.mark.parametrize("id", ["CartPole-v1", "Acrobot-v1", "FrozenLake-v1"])
def test_check_vector_env_passes_gymnasium(id):
    def vector(num_envs, autoreset_mode):
        return SyncVectorEnv([partial(gym.make, id, max_episode_steps=30)] * num_envs, autoreset_mode=autoreset_mode)

    check_vector_env(vector, single=partial(gym.make, id, max_episode_steps=30), steps=80)


@pytest.mark.parametrize(
    "kwargs", [{}, {"episode_steps": 12, "scheme": "euler"}, {"horizon": 2.0, "dt": 0.25}], ids=repr
)
@pytest.mark.parametrize("id", registered_ids())
def test_registered_environments(id, kwargs):
    steps = 60 if kwargs else 260
    check_vector_env(partial(gym.make_vec, id, **kwargs), single=partial(gym.make, id, **kwargs), steps=steps)


class Staggered(VectorWrapper):
    """Rows that start at different times, so that they end at different steps."""

    def reset(self, *, seed=None, options=None):
        times = self.env.unwrapped.dt * np.arange(self.num_envs)
        return self.env.reset(seed=seed, options=options or {"time": times})


@pytest.mark.parametrize("kwargs", [{"episode_steps": 12}, {"horizon": 2.0, "dt": 0.25}], ids=repr)
@pytest.mark.parametrize("id", registered_ids())
def test_registered_environments_whose_rows_end_one_by_one(id, kwargs):
    played = []
    for mode in AutoresetMode:
        env = Watched(Staggered(gym.make_vec(id, num_envs=4, autoreset_mode=mode, **kwargs)), 4, mode)
        actions = np.random.default_rng(0).uniform(-1, 1, (4, 50, *env.single_action_space.shape))
        played.append(play(env, 3, [list(row) for row in actions.astype(np.float32)], 40))
        env.close()
    ends = [next(k for k, step in enumerate(row) if step.terminated or step.truncated) for row in played[0]]
    assert len(set(ends)) == 4
    for other in played[1:]:
        require_equal(played[0], other, "one mode against another", "")


@pytest.mark.parametrize("id", registered_ids())
def test_registered_environments_render(id):
    check_vector_env(id, steps=20, episode_steps=12)
