"""The hidden seed: its file, the key that is made of it, and `Hidden`, of which every question and picture is made.

Students see much that follows from the seed: what hidden questions expected, above all. So whoever can guess it can
make sure of the guess at home, and then knows all questions and labels. A seed is therefore 128 random bits, and each
guess costs `_ROUNDS` hashes.
"""

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from hw7 import HW7Error
from hw7.support.words import reason

SEED_BYTES = 16
_ROUNDS = 1_000_000  # of PBKDF2: some tenths of a second, once a run
_FEWEST_STEPS = 8  # of the 16 from one hexadecimal digit to the next; random ones have fewer once in 10 million


@dataclass(frozen=True)
class Hidden:
    """What only the grader knows: a key for every question and picture, and where the pictures come from."""

    seed: bytes = field(repr=False)
    source: str = "plates"

    def derive(self, *purpose: str) -> bytes:
        """32 bytes of the seed for one purpose."""
        return hashlib.sha256(b"\0".join([self.seed, *(word.encode() for word in purpose)])).digest()

    def digest(self) -> str:
        """Tells two hidden sets apart. Stands in the journal, and nowhere that students look: guesses fit it or not."""
        return hashlib.sha256(b"hidden\0" + self.source.encode() + b"\0" + self.seed).hexdigest()


def new_seed() -> bytes:
    """128 random bits."""
    return secrets.token_bytes(SEED_BYTES)


def write_seed(path: Path, seed: bytes) -> None:
    """A new file that only its owner reads, whole from the moment it is seen. Keeps the other where there is one: of
    the shards of a cluster that start together, one is first. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{seed.hex()}\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(OSError):  # it is there already, or this file system has no links
            os.link(temporary, path)
        if not path.exists():
            os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_seed(path: Path) -> bytes:
    """The seed in this file. Raises HW7Error where it cannot be read, or could be guessed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise HW7Error(
            f"the hidden seed {path} cannot be read ({reason(error)}). Make one with `hw7-grade new-seed FILE`"
        ) from error
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) < SEED_BYTES or _has_a_pattern(seed):
        raise HW7Error(
            f"the hidden seed {path} could be guessed: it must be {2 * SEED_BYTES} hexadecimal digits or more, "
            "drawn at random. Delete the file and make one with `hw7-grade new-seed FILE`"
        )
    return seed


def _has_a_pattern(seed: bytes) -> bool:
    """Whether a person made it: words or a date in hexadecimal, digits repeated or in a row. Random bytes pass, but for
    one seed in millions."""
    digits = seed.hex()
    steps = {(int(after, 16) - int(before, 16)) % 16 for before, after in pairwise(digits)}
    words = all(0x20 <= byte < 0x7F for byte in seed)
    return words or digits.isdecimal() or digits in (2 * digits)[1:-1] or len(steps) < _FEWEST_STEPS


@lru_cache(maxsize=8)
def stretched(seed: bytes) -> bytes:
    """The 32 bytes for `Hidden`: all that follows from a seed does so through this, which makes each guess slow."""
    return hashlib.pbkdf2_hmac("sha256", seed, b"hw7: the hidden seed", _ROUNDS)
