"""Words for numbers and for errors: a noun in the singular or plural, and why something failed, as a person says it."""

from collections.abc import Sequence


def counted(number: float, noun: str) -> str:
    """ "1 image", "3,347 images", "0.5 points"."""
    return f"{number:,.12g} {noun if number == 1 else noun + 's'}"


def joined(words: Sequence[str], word: str = "and") -> str:
    """ "a, b and c"; "" for none."""
    return f" {word} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def reason(error: BaseException) -> str:
    """Why, without an error's number or the quotes around a path: "No such file or directory"."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "there is a file in the place of a folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it lacks {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)
