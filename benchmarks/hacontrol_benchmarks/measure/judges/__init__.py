"""Random legal parameters, and independent judges of the solution of a problem or an economy at them.

Each module here is a subject. It states

* `draw(u)`, parameters made of uniform numbers u() in [0, 1]: wide ranges, every optional parameter now and then;
* `judge(parameters)`, which solves, and raises `WrongAnswer` where the answer fails a check that shares no code with
  it. An error of ours on the way is a refusal, which counts as an answer.
"""


class WrongAnswer(AssertionError):  # noqa: N818  (what it is, in the words of those who read it)
    """A solution that was returned is wrong."""
