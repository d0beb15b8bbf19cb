"""The hidden seed, of which every question and picture is made."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Hidden:
    """What only the grader knows: a seed for every question and picture, and where the pictures come from."""

    seed: bytes
    source: str = "plates"

    def derive(self, *purpose: str) -> bytes:
        """32 bytes of the seed for one purpose."""
        return hashlib.sha256(b"\0".join([self.seed, *(word.encode() for word in purpose)])).digest()

    def digest(self) -> str:
        """What may be written down: it tells two hidden sets apart and gives neither away."""
        return hashlib.sha256(b"hidden\0" + self.source.encode() + b"\0" + self.seed).hexdigest()
