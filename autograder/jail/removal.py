"""Removal of folders that hostile code has filled: no recursion, no link followed, nothing opened but folders."""

import os


def remove_tree(parent: int | None, name: str) -> None:
    """Removes a folder, whoever filled it and however deep it is. parent: a descriptor that `name` is relative to."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(name, flags, dir_fd=parent)
    try:
        os.fchmod(top, 0o700)
        moved = 0
        while folders := _unlink_files(top):
            for folder in folders:
                os.chmod(folder, 0o700, dir_fd=top)
                inner = os.open(folder, flags, dir_fd=top)
                try:
                    for below in _unlink_files(inner):  # up beside its parent, so that no path gets long
                        moved += 1
                        os.chmod(below, 0o700, dir_fd=inner)
                        os.rename(below, f"{os.getpid()}.moved.{moved}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(folder, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _unlink_files(folder: int) -> list[str]:
    """Unlinks what is no folder; the names of the folders that are left."""
    folders = []
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=folder)
    return folders
