"""Text from suites and results: which names are allowed, and how text is written to a terminal, Markdown or a file.

HTML is escaped by the page's template.
"""

from __future__ import annotations

import re
import unicodedata

from rich.markup import escape

from hacontrol_envs.errors import ParameterError

LONGEST = 200
"""Most characters of a name."""
_LOOKALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухԁһ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧον" + "·∙⋅‐‑‒–—−|ıƖ",
    "ABESIJKMHOPCTYXaesijopcyxdh" + "ABEZHIKMNOPTYXov" + "...------lil",
)
"""Cyrillic and Greek letters, dots and dashes, and the Latin characters that they look like."""
_MARKS = re.compile(
    r"[\\`*|~]|^[#+-](?=\s)|\](?=[(\[])|!(?=\[)"  # code, emphasis, cells, headings, lists, links, pictures
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\."  # emphasis by underscores at a word's end, bare addresses
)
"""Characters that Markdown does not show as they are."""


def refuse_unprintable(what: str, name: str) -> None:
    """Raise ParameterError unless a name is one line of at most LONGEST printable characters, no space at its ends."""
    if len(name) > LONGEST:
        raise ParameterError(
            f"{what} must have at most {LONGEST} characters, got {len(name)}: {printable(name[:40])!r}..."
        )
    if name != name.strip() or not name.isprintable():
        raise ParameterError(f"{what} must be one line of characters that print, without spaces around, got {name!r}")


def likeness(name: str) -> str:
    """Return text that is the same for names that print alike, without regard to width, alphabet or runs of spaces."""
    folded = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES)
    return " ".join(folded.split())


def printable(text: str) -> str:
    """Return text in one line, with characters escaped that move a cursor, colour or turn the direction of writing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def terminal(text: str) -> str:
    """Return text that rich prints as it is, whatever it holds."""
    return escape(printable(text)) + ("" if not text.endswith("\\") else " ")


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is: no HTML, no link, no code, no end of a table's cell."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\g<0>", plain)
