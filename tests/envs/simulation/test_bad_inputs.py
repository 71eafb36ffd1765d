"""Whatever makes no sense gives one clear error, and leaves the environment bitwise as it was."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.marks import slow_where
from common.sampled_envs import CHEAP, WITH_HORIZON, every_id, problem_of, step_of
from hacontrol_envs import LQR, FirmIndustry, KrusellSmith, Merton, registered_ids
from hacontrol_envs.errors import ActionError, HacontrolError, ParameterError, ResetError, SeedError
from hacontrol_envs.simulation.env import SDEEnv, SDEVectorEnv

ROWS = 3


def quickly(count: int) -> Any:
    """So many generated inputs; no shrinking database, no limit on the time of one."""
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def envs(id: str) -> tuple[SDEEnv, SDEVectorEnv]:
    """A single and a vector environment that end after eight steps, two steps into an episode."""
    ending: dict[str, Any] = {"horizon": 2.0} if id in WITH_HORIZON else {"episode_steps": 8}
    ending |= CHEAP.get(id, {})
    one: Any = gym.make(id, dt=step_of(id), **ending).unwrapped
    many: Any = gym.make_vec(id, num_envs=ROWS, dt=step_of(id), **ending)
    for env in (one, many):
        env.reset(seed=0)
        for _ in range(2):
            env.step(np.zeros(env.action_space.shape, np.float32))
    return one, many


MOST = slow_where(lambda id: id != "FirmInvestment-v0", registered_ids())


@pytest.fixture(scope="module", params=MOST)
def pair(request: pytest.FixtureRequest) -> tuple[SDEEnv, SDEVectorEnv]:
    return envs(request.param)


def snapshot(env: Any) -> dict[str, bytes]:
    rows = env._rows if isinstance(env, SDEEnv) else env
    return {name: array.tobytes() for name, array in rows.get_state().items()}


def refused(env: Any, error: type[HacontrolError], call: Any) -> None:
    """The call raises that error, says something, and changes nothing."""
    before = snapshot(env)
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    assert 15 < len(str(raised.value)) < 600
    assert snapshot(env) == before


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.complex_numbers(),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.sets(st.integers(), max_size=2),
    st.just(object()),
    st.just(len),
    st.just([[1.0], [1.0, 2.0]]),
    st.just(np.array("2020-01-01", dtype="datetime64[D]")),
    st.just(np.zeros(2, dtype=[("a", float)])),
)
not_finite = st.sampled_from([np.nan, np.inf, -np.inf])


@st.composite
def bad_action(draw: Any, shape: tuple[int, ...]) -> Any:
    kind = draw(st.sampled_from(["junk", "type", "shape", "value"]))
    if kind == "junk":
        return draw(junk)
    if kind == "type":
        dtype = draw(
            st.sampled_from([bool, object, "U3", "S2", complex, np.complex64, np.longdouble, "M8[s]", "m8[s]"])
        )
        return np.zeros(shape, dtype)
    if kind == "shape":
        other = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5).filter(lambda s: s != shape))
        return draw(st.sampled_from([np.zeros(other), np.zeros(other, np.float32), np.zeros(other).tolist()]))
    numbers = st.floats(-2, 2, width=32)
    array = draw(
        hnp.arrays(
            draw(st.sampled_from([np.float16, np.float32, np.float64])), shape, elements=st.floats(-2, 2, width=16)
        )
    )
    flat = array.reshape(-1)
    flat[draw(st.integers(0, flat.size - 1))] = draw(not_finite)
    return draw(st.sampled_from([array, array.tolist()])) if draw(numbers) < 1 else np.asfortranarray(array)


@pytest.mark.slow
@quickly(300)
@given(data=st.data())
def test_actions(pair: tuple[SDEEnv, SDEVectorEnv], data: st.DataObject) -> None:
    for env in pair:
        action = data.draw(bad_action(env.action_space.shape))
        refused(env, ActionError, lambda env=env, action=action: env.step(action))


not_a_seed = st.one_of(
    junk.filter(lambda value: value is not None),
    st.integers(max_value=-1),
    st.floats(),
    st.floats().map(np.float64),
    st.integers(-9, -1).map(np.int64),
    st.just(np.bool_(True)),
    st.just(np.array([1, 2, 3])),
)
seed = st.one_of(st.none(), st.integers(0, 2**70))


@pytest.mark.slow
@quickly(150)
@given(data=st.data())
def test_seeds(pair: tuple[SDEEnv, SDEVectorEnv], data: st.DataObject) -> None:
    one, many = pair
    given_to_one = data.draw(st.one_of(not_a_seed, st.lists(seed, max_size=3)))
    refused(one, SeedError, lambda: one.reset(seed=given_to_one))
    seeds = data.draw(st.lists(seed, min_size=ROWS, max_size=ROWS))
    seeds[data.draw(st.integers(0, ROWS - 1))] = data.draw(not_a_seed)
    wrong_length = st.lists(seed, max_size=6).filter(lambda found: len(found) != ROWS)
    given_to_many = data.draw(
        st.one_of(not_a_seed.filter(lambda v: not isinstance(v, list)), st.just(seeds), wrong_length)
    )
    refused(many, SeedError, lambda: many.reset(seed=given_to_many))


@st.composite
def bad_options(draw: Any, env: Any) -> Any:
    n, several = env.problem.state.dimension, isinstance(env, SDEVectorEnv)
    shapes = [(n,), (ROWS, n)] if several else [(n,), (1, n)]
    something = junk.filter(lambda value: value is not None)
    wrong_shape = hnp.array_shapes(min_dims=0, max_dims=3, max_side=4).filter(lambda shape: shape not in shapes)
    state = [something, wrong_shape.map(np.ones), not_finite.map(lambda bad: np.full(shapes[-1], bad))]
    if env.problem.state.log.any():
        state.append(st.floats(-1e9, 0).map(lambda bad: np.full(n, bad)))
    time = [
        something,
        not_finite,
        st.floats(max_value=-1e-3),
        st.floats(env.dt * env.episode_steps, 1e300),
        st.floats(0.01 * env.dt, 0.99 * env.dt),
        st.just(np.zeros(7)),
    ]
    bad = {"state": st.one_of(state), "time": st.one_of(time)}
    if several:
        wrong_mask = hnp.array_shapes(max_dims=2, max_side=4).filter(lambda shape: shape != (ROWS,))
        mask = [something, wrong_mask.map(lambda shape: np.ones(shape, bool)), st.just(np.zeros(ROWS, bool))]
        bad["reset_mask"] = st.one_of([*mask, st.just([True] * ROWS), st.just(np.ones(ROWS))])
    unknown = st.text(max_size=8).filter(lambda name: name not in ("state", "time", "reset_mask"))
    kind = draw(st.sampled_from([*bad, "unknown", "not a dictionary"]))
    if kind == "not a dictionary":
        return draw(
            st.one_of(st.integers(), st.text(min_size=1), st.lists(st.integers(), min_size=1), st.just(object()))
        )
    name = draw(unknown) if kind == "unknown" else kind
    value = draw(bad[kind]) if kind in bad else draw(junk)
    good = {"state": np.ones(n)} if draw(st.booleans()) else {}
    return {**good, name: value}


@pytest.mark.slow
@quickly(150)
@given(data=st.data())
def test_options(pair: tuple[SDEEnv, SDEVectorEnv], data: st.DataObject) -> None:
    for env in pair:
        options = data.draw(bad_options(env))
        refused(env, ResetError, lambda env=env, options=options: env.reset(seed=1, options=options))


bad_number = st.one_of(
    not_finite,
    st.text(max_size=4),
    st.complex_numbers(),
    st.dictionaries(st.text(max_size=1), st.integers()),
    st.just(object()),
)
BAD_ARGUMENTS: dict[str, Any] = {
    "dt": st.one_of(bad_number, st.none(), st.booleans(), st.floats(max_value=0.0), st.just(1e300)),
    "scheme": st.one_of(st.none(), st.text(max_size=5), st.integers(), st.just(["exact"])),
    "episode_steps": st.one_of(bad_number, st.booleans(), st.integers(max_value=0), st.floats()),
    "num_envs": st.one_of(bad_number, st.none(), st.booleans(), st.integers(max_value=0), st.floats()),
    "autoreset_mode": st.one_of(st.none(), st.text(max_size=5), st.integers(), st.just([])),
    "horizon": st.one_of(bad_number, st.floats(max_value=0.0), st.sampled_from([0.3, 1e-300, 1e-5])),
}


@pytest.mark.parametrize("id", MOST)
@quickly(400)
@given(data=st.data())
def test_parameters(id: str, data: st.DataObject) -> None:
    """Junk for any argument of the environment or field of the problem, and names that do not exist."""
    fields = list(problem_of(id).parameters)
    unknown = st.text("abcdefghij_", min_size=1, max_size=9).filter(lambda name: name != "id")  # gym.make's own
    name = data.draw(st.one_of(st.sampled_from([*BAD_ARGUMENTS]), st.sampled_from(fields), unknown))
    value = data.draw(BAD_ARGUMENTS.get(name, bad_number))
    parameters = {**CHEAP.get(id, {}), "dt": step_of(id), name: value}
    single = name not in ("num_envs", "autoreset_mode")
    for make in (gym.make, gym.make_vec)[0 if single else 1 :]:
        with pytest.raises(ParameterError) as raised:
            make(id, **parameters)
        own, _, _ = str(raised.value).partition(" was raised from the environment creator")  # and all keywords
        assert 15 < len(own) < 900
        assert name in str(raised.value)


@pytest.mark.parametrize("given", ["", "ansi", 3, ["rgb_array"], "human"])
def test_pictures_that_we_do_not_draw(given):
    """`gym.make` itself speaks of render modes first; "human" is its own, by a wrapper."""
    with pytest.raises(ParameterError, match="render_mode"):
        SDEEnv(LQR(), dt=0.1, render_mode=given)
    with pytest.raises(ParameterError, match="render_mode"):
        gym.make_vec("LQR-v0", 2, render_mode=given)


@quickly(300)
@given(stem=st.text("LQRMertonabc", min_size=1, max_size=7), version=st.integers(1, 99))
def test_ids(stem: str, version: int) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(gym.error.Error):
            make(f"{stem}-v{version}")


@every_id
def test_before_the_first_reset(id: str) -> None:
    cheap = CHEAP.get(id, {})
    for env in (gym.make(id, **cheap).unwrapped, gym.make_vec(id, num_envs=ROWS, **cheap)):
        refused(env, ResetError, lambda env=env: env.step(np.zeros(env.action_space.shape)))
    refused(env, ResetError, lambda: env.reset(options={"reset_mask": np.array([True, False, False])}))


@every_id
def test_good_inputs_of_unusual_type_are_taken(id: str) -> None:
    one, many = envs(id)
    m = one.action_space.shape[0]
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.uint64):
        one.step(np.zeros(m, dtype))
        many.step(np.zeros((ROWS, m), dtype, order="F"))
    one.reset(seed=np.uint8(3), options={})
    many.reset(seed=(1, None, np.int64(4)), options={"state": None, "time": np.int64(1), "reset_mask": None})
    one.step([0] * m)
    many.step([[0.5] * m] * ROWS)


def test_the_message_says_what_to_do() -> None:
    with pytest.raises(ParameterError, match="did you mean 'risk_aversion'"):
        gym.make("Merton-v0", risk_aversoin=2.0)
    with pytest.raises(ParameterError, match="dt must divide the horizon"):
        gym.make("Merton-v0", horizon=1.1)
    with pytest.raises(ParameterError, match="leave it out"):
        gym.make_vec("Merton-v0", horizon=1.0, max_episode_steps=3)
    env = gym.make("LQR-v0").unwrapped
    env.reset(seed=0)
    with pytest.raises(ResetError, match="did you mean 'state'"):
        env.reset(options={"stat": [0.0]})
    with pytest.raises(ActionError, match=r"must have shape \(1,\), got shape \(1, 1\)"):
        env.step(np.zeros((1, 1)))
    with pytest.raises(ActionError, match=r"must be finite, got .*nan"):
        env.step([np.nan])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LQR(dimension=10**18), "dimension must be at most"),
        (lambda: LQR(state_matrix=np.zeros((2000, 2000))), "state_matrix must have at most"),
        (lambda: LQR(control_cost=1e-300), "too far apart for floats"),
        (lambda: LQR(noise_matrix=1e300), "too far apart for floats"),
        (lambda: LQR(discount=10**400), "which no float can hold"),
        (lambda: LQR(state_matrix=10**400), "which no float can hold"),
        (lambda: LQR(state_matrix=[[10**400]]), "which no float can hold"),
        (lambda: Merton(expected_return=[0.08] * 2000), "at most 100 risky assets"),
        (lambda: gym.make_vec("LQR-v0", num_envs=10**12), "num_envs must be at most"),
    ],
)
def test_what_no_machine_holds_is_refused_at_once(make, said):
    with pytest.raises(ParameterError, match=said):
        make()


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: gym.make("Merton-v0", gamma=3.0), "risk_aversion"),
        (lambda: gym.make_vec("Merton-v0", 2, sigma=0.3), "volatility"),
        (lambda: gym.make("LQR-v0", rho=0.2), "discount"),
        (lambda: gym.make("KrusellSmith-v0", beta=0.97), "discount_factor"),
        (lambda: KrusellSmith("jedc", eis=0.5), "intertemporal_elasticity"),
        (lambda: FirmIndustry(delta=0.1), "depreciation"),
    ],
)
def test_symbols_of_the_literature_are_pointed_to_parameters(make, meant):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '[a-z]+'.*did you mean '{meant}'"):
        make()
