"""Removal of folders that hostile code has filled."""

from __future__ import annotations

import os


def remove_tree(parent: int | None, name: str) -> None:
    """Removes a folder whoever filled it, however deep it is. Follows no link, and never opens what is no folder."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(name, flags, dir_fd=parent)
    try:
        os.fchmod(top, 0o700)
        fresh = 0
        while entries := list(os.scandir(top)):
            for entry in entries:
                if not _is_folder(entry):
                    os.unlink(entry.name, dir_fd=top)
            for folder in [entry.name for entry in entries if _is_folder(entry)]:
                os.chmod(folder, 0o700, dir_fd=top)
                inner = os.open(folder, flags, dir_fd=top)
                try:
                    for entry in list(os.scandir(inner)):
                        if _is_folder(entry):  # up beside its parent: no recursion, however deep they are
                            fresh += 1
                            os.chmod(entry.name, 0o700, dir_fd=inner)
                            os.rename(entry.name, f"{os.getpid()}.moved.{fresh}", src_dir_fd=inner, dst_dir_fd=top)
                        else:
                            os.unlink(entry.name, dir_fd=inner)
                finally:
                    os.close(inner)
                os.rmdir(folder, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)
