"""Everything that hacontrol raises on purpose, drawn as a tree.

HacontrolError
├── ParameterError   a problem, environment or agent was given a parameter it cannot have   (also a ValueError)
│   └── UnknownParameterError  a keyword argument that it does not take                      (also a TypeError)
├── ActionError      `step` was given something that is not a finite action of the right shape (also a ValueError)
├── SeedError        a seed that is not a non-negative integer                              (also a ValueError)
├── ResetError       `reset` options that make no sense, or `step` before `reset`           (also a ValueError)
├── ContractError    `check_problem` or `check_vector_env` found a broken promise           (also an AssertionError)
├── CheckpointError  a saved agent or a result file that is torn, altered or of another kind (also a ValueError)
├── EquilibriumError an economy has no equilibrium, or none inside its bounds               (also a ValueError)
├── NumericalError   a solver ended with a result that fails its own test                    (also an ArithmeticError)
├── LearningError    a learner's numbers are not finite: nothing was learnt                  (also an ArithmeticError)
└── UnknownNameError an id, agent, suite or task that does not exist                        (also a LookupError)

and everything that it warns of:

HacontrolWarning
├── ConvergenceWarning  a rule by which a learner or a solver says that it is done was not met
└── TruncationWarning   a grid or a box that was meant not to matter cuts off part of a law
"""

import difflib
from collections.abc import Iterable


class HacontrolError(Exception):
    """Root of every error that hacontrol raises on purpose."""


class ParameterError(HacontrolError, ValueError):
    """A parameter is missing, malformed or economically infeasible."""


class UnknownParameterError(ParameterError, TypeError):
    """A keyword argument that a problem, environment or agent does not take; also a TypeError, as Python's own is."""


class NumericalError(HacontrolError, ArithmeticError):
    """A solver did not reach a result that passes its own test, and returns none."""


class LearningError(HacontrolError, ArithmeticError):
    """What a learner computes is not finite: nothing is returned, saved or ranked as learnt."""


class ActionError(HacontrolError, ValueError):
    """An action has the wrong type or shape, or is not finite."""


class SeedError(HacontrolError, ValueError):
    """A seed is not a non-negative integer."""


class ResetError(HacontrolError, ValueError):
    """Reset options make no sense, or an environment was stepped before it was reset."""


class ContractError(HacontrolError, AssertionError):
    """A problem or an environment breaks a promise that its interface makes."""


class CheckpointError(HacontrolError, ValueError):
    """A file is torn, altered, or of another kind than expected."""


class EquilibriumError(HacontrolError, ValueError):
    """There is no equilibrium, or a bound that was meant not to matter shapes it."""


class UnknownNameError(HacontrolError, LookupError):
    """No environment, agent, suite or task has this name."""


class HacontrolWarning(UserWarning):
    """Root of every warning that hacontrol gives on purpose."""


class ConvergenceWarning(HacontrolWarning):
    """A learner or a solver ended before the rule was met by which it says that it is done."""


class TruncationWarning(HacontrolWarning):
    """A grid or a box that was meant not to matter cuts off part of a law."""


def nearest(given: object, known: Iterable[str]) -> str:
    """Return "did you mean ...? " with the known name nearest to an unknown one, or "" where none is near."""
    near = difflib.get_close_matches(str(given), list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
