"""Random legal parameters of every problem and economy: draw them, solve, and judge the answer by other means."""


class WrongAnswer(AssertionError):  # noqa: N818
    """An answer that an independent computation contradicts."""
