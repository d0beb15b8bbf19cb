"""Parts: one large file as FILE.01, FILE.02, … of limited size, which are replaced together or not at all.

FILE.01 begins with a table of the numbers and digests of all parts, and is written last: until then the old parts,
which have other numbers, are the whole, and from then on the new ones.
"""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

from hw7 import HW7Error
from hw7.support.files import write_file
from hw7.support.words import reason

MOST = 16_000_000  # bytes of a part
HEAD = 16_384  # bytes at the beginning of FILE.01: enough for the digests of 300 parts


def write_parts(file: Path, data: bytes) -> list[Path]:
    """Cuts the data into parts, in the place of those that are there; their paths.

    Raises HW7Error where the disk is full or there would be too many.
    """
    view = memoryview(data)
    pieces = [view[: MOST - HEAD], *(view[start : start + MOST] for start in range(MOST - HEAD, len(view), MOST))]
    taken = {1, *(number for number, _ in _table(file))}
    numbers = [1, *(number for number in range(2, len(pieces) + len(taken) + 1) if number not in taken)][: len(pieces)]
    table = json.dumps([[number, _digest(piece)] for number, piece in zip(numbers, pieces, strict=True)])
    head = f"hw7 {_digest(table.encode())} {table}".encode().ljust(HEAD - 1) + b"\n"
    if len(head) > HEAD:
        raise HW7Error(f"{len(data):,} bytes are too many to be cut into parts of {MOST:,}")
    parts = [_part(file, number) for number in numbers]
    try:
        for part, piece in zip(parts[1:], pieces[1:], strict=True):
            write_file(part, piece)
        write_file(parts[0], head + bytes(pieces[0]))
    except BaseException:
        for part in parts[1:]:
            with suppress(OSError):
                part.unlink()
        raise
    for path in file.parent.iterdir():
        if re.fullmatch(re.escape(file.name) + r"\.\d\d+", path.name) and path not in parts:
            path.unlink()
    return parts


def read_parts(file: Path) -> tuple[list[Path], bytes]:
    """The paths of the parts, and all that is in them.

    Raises HW7Error where a part is missing or damaged, and says which.
    """
    table = _table(file)
    if not table:
        raise HW7Error(f"there is no {file} in parts: {_part(file, 1)} is missing or damaged")
    parts, pieces = [_part(file, number) for number, _ in table], []
    for part, (number, digest) in zip(parts, table, strict=True):
        try:
            data = part.read_bytes()
        except OSError as error:
            raise HW7Error(f"{part} is missing ({reason(error)}), one of {len(table)} parts; carry it again") from error
        pieces.append(memoryview(data)[HEAD if number == 1 else 0 :])
        if _digest(pieces[-1]) != digest:
            raise HW7Error(f"{part} is damaged, or belongs to something else; carry it again")
    return parts, b"".join(pieces)


def _table(file: Path) -> list[tuple[int, str]]:
    """Number and digest of each part, in order, as FILE.01 has it; nothing where that is missing or damaged."""
    with suppress(OSError, ValueError), _part(file, 1).open("rb") as first:
        _, digest, table = first.read(HEAD).decode().rstrip().split(" ", 2)
        if digest == _digest(table.encode()):
            return [(number, own) for number, own in json.loads(table)]
    return []


def _part(file: Path, number: int) -> Path:
    return file.with_name(file.name + f".{number:02}")


def _digest(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
