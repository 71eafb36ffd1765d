"""What a problem caches for a step length is computed once, however many problems there are."""

from hacontrol_envs import LQR, Merton
from hacontrol_envs.numerics.cache import MOST, cached_by_step


class Counter:
    def __init__(self):
        self.calls = []

    @cached_by_step
    def doubled(self, dt):
        self.calls.append(dt)
        return 2 * dt


def test_once_for_each_problem_and_step():
    many = [Counter() for _ in range(4 * MOST)]
    for _ in range(3):
        assert [one.doubled(0.5) for one in many] == [1.0] * len(many)
    assert all(one.calls == [0.5] for one in many)


def test_the_oldest_step_makes_room():
    one = Counter()
    for k in [*range(MOST + 1), 0]:
        assert one.doubled(float(k)) == 2 * k
    assert one.calls == [*map(float, range(MOST + 1)), 0.0]


def test_problems_keep_their_own():
    for kind, name in ((LQR, "_held_loops"), (Merton, "_constants")):
        many = [kind() for _ in range(20)]
        first = [getattr(p, name)(0.1) for p in many]
        assert all(getattr(p, name)(0.1) is cached for p, cached in zip(many, first, strict=True))
