"""Text from outside, made fit for a line of a terminal, a table or a picture."""

import re

_SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def without_surrogates(text: str) -> str:
    """Text that can be encoded: Python has surrogates for bytes that are not UTF-8."""
    return _SURROGATES.sub(REPLACEMENT, text)


def one_line(text: str, longest: int) -> str:
    """Text on one line of at most so many letters, the rest an ellipsis.

    What cannot be shown (surrogates, control characters) is a replacement character.
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else REPLACEMENT for c in line[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"
