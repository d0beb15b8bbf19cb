"""Text that anybody may have written: which of its characters are seen, and names that can be printed anywhere."""

import hashlib
import unicodedata

from hw7.solution import MAX_NAME

# Letters, marks and symbols by Unicode's categories, of which nothing is seen: joiners, fillers, blanks, variants.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def is_seen(char: str) -> bool:
    """Whether a reader sees this character and may know it: a space or a glyph that turns no text around it."""
    return char.isprintable() and char not in _UNSEEN


def readable(name: str) -> str:
    """A name that can be printed, compared and written to any file: no lone surrogates, and all of it is seen."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    text = "".join(" " if char.isspace() else char if is_seen(char) else "?" for char in text).strip()
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
