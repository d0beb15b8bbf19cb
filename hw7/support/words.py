"""Words for numbers: a noun in the singular or plural that its number asks for."""


def counted(number: float, noun: str) -> str:
    """ "1 image", "3,347 images", "0.5 points"."""
    return f"{number:,.12g} {noun if number == 1 else noun + 's'}"
