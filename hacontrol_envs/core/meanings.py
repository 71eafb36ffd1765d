"""What a class says of its parameters: the docstrings under its fields, and the Args section of its own docstring."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from functools import lru_cache


def meanings(kind: type) -> dict[str, str]:
    """Return the meaning of each field and constructor argument of a class, by name, each in one line.

    A class says more than its bases do, and an Args section more than a field. A class whose parameters are those of
    other dataclasses names these in its attribute `parameter_lists`.
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found |= _fields(base)
    for other in reversed(getattr(kind, "parameter_lists", ())):
        found |= meanings(other)
    for base in reversed(kind.__mro__):
        found |= _arguments(base)
    return found


@lru_cache(maxsize=256)
def _fields(kind: type) -> dict[str, str]:
    """Docstrings under the annotated names of a class; none where its source is not to be had."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    return {
        one.target.id: " ".join(below.value.value.split())
        for one, below in itertools.pairwise(tree.body)
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


def _arguments(kind: type) -> dict[str, str]:
    """Entries "name: meaning" of the Args section of a class docstring."""
    section = re.search(r"(?m)^Args:\n((?:    .*\n?|\n)*)", inspect.cleandoc(vars(kind).get("__doc__") or ""))
    entries = re.split(r"(?m)^    (?=\w)", section.group(1))[1:] if section else []
    parts = [entry.partition(":") for entry in entries]
    return {name: " ".join(meaning.split()) for names, _, meaning in parts for name in names.split(", ")}
