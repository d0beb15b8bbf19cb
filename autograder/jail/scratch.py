"""What a child has taken of a disk: all that is allocated, whether a name of it is left or not.

For a folder on a disk, which has no limit of its own. The child may change everything while the fork server counts: a
count can be wrong by what has just changed, and the next one comes soon.
"""

import contextlib
import errno
import os
import stat

UNSEEN = 2 * 2**20  # bytes that a mapped file without a name counts at least, where only root can see how large it is


def taken(folder: str, pid: int, most_files: int) -> tuple[int, int]:
    """(bytes, files) that are listed in this folder, and that this process holds without a name.

    It stops counting names above `most_files`. What a process of another user holds can only be seen with
    CAP_SYS_PTRACE; without it, what is listed is all that counts.
    """
    sizes: dict[tuple[int, int], int] = {}  # of each file: one with two names has its bytes once
    names = _add_listed(folder, sizes, most_files)
    _add_open(pid, sizes)
    _add_mapped(folder, pid, sizes)
    return sum(sizes.values()), max(names, len(sizes))


def _add(sizes: dict[tuple[int, int], int], status: os.stat_result) -> None:
    sizes[status.st_dev, status.st_ino] = status.st_blocks * 512


def _add_listed(folder: str, sizes: dict[tuple[int, int], int], most_files: int) -> int:
    """How many names there are."""
    names, folders = 0, [folder]
    with contextlib.suppress(OSError):
        _add(sizes, os.stat(folder))  # a folder that has had many names stays large
    while folders and names <= most_files:
        try:
            for entry in list(os.scandir(folders.pop())):
                names += 1
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # gone again: the others still count
                    _add(sizes, entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # deeper than anything can be looked at
                return most_files + 1
    return names


def _add_open(pid: int, sizes: dict[tuple[int, int], int]) -> None:
    """Its open files and folders that have no name any more."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{name}")
                if status.st_nlink == 0 and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                    _add(sizes, status)


def _add_mapped(folder: str, pid: int, sizes: dict[tuple[int, int], int]) -> None:
    """The files of this folder that it has mapped, and perhaps closed, and that have no name any more."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            lines = [line for line in file if line.endswith(b" (deleted)\n") and os.fsencode(folder) in line]
    except OSError:
        return
    seen = {inode for _, inode in sizes}
    for span, _, offset, _, inode, *_ in (os.fsdecode(line).split(maxsplit=5) for line in lines):
        try:
            _add(sizes, os.stat(f"/proc/{pid}/map_files/{span}"))
        except OSError:
            if int(inode) not in seen:
                start, end = (int(number, 16) for number in span.split("-"))
                key = -1, int(inode)
                sizes[key] = max(sizes.get(key, UNSEEN), int(offset, 16) + end - start)
