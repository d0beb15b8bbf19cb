"""Bounded JSON: what somebody else wrote, read only up to so many values and levels, and without odd numbers."""

import json
import math
from collections.abc import Iterable
from typing import Any

MAX_VALUES = 1_000_000  # one takes up to 300 bytes of memory, and three of text
MAX_LEVELS = 100


class TooMuchError(ValueError):
    """More than is read; the message goes on from the document's name: "has more than …"."""


def read_bounded(text: str) -> Any:
    """The value of a JSON text; NaN, infinity and numbers of 20 digits and more become None.

    Raises TooMuchError for more than MAX_VALUES or MAX_LEVELS, ValueError for what is no JSON.
    """
    # What may begin a value; more, where text has commas and brackets in it.
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise TooMuchError(f"has more than {MAX_VALUES:,} values in it")
    try:
        value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"more than {MAX_LEVELS} brackets are open at once") from None
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [each for outer in level if isinstance(outer, list | dict) for each in _inside(outer)]
        if not level:
            return value
    raise TooMuchError(f"has more than {MAX_LEVELS} levels in it")


def _inside(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return value if isinstance(value, list) else value.values()


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) < 20 else None  # Python refuses to read one of more than 4,300 digits
