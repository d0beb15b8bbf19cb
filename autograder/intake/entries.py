"""Files of folders and of zips that nobody has looked at yet, one by one: named, bounded, and read without surprises.

No link is followed, no FIFO waited for, nothing unpacked beyond its bounds. What is not read says why, in words for the
student.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

MAX_UNPACKED = 4_000_000_000  # declared, of all that is in a student's zip
MAX_RATIO = 200  # unpacked to packed, of a zip that unpacks to more than RATIO_FROM
RATIO_FROM = 100_000_000
MAX_DIRECTORY = 8_000_000  # bytes of a zip's table of contents
MAX_ENTRIES = 20_000
MAX_DEPTH = 16
MAX_NAME = 100  # characters of one folder's or file's name
TOO_MANY = f"More than {MAX_ENTRIES:,} files: leave data and environments out."

_LITTER = re.compile(r"\.[^/]*|__MACOSX|__pycache__|Thumbs\.db|desktop\.ini|.*\.py[co]", re.IGNORECASE)


class Refused(Exception):
    """Why a submission, or one entry of it, is not read; in words for the student."""


@dataclass(frozen=True)
class Entry:
    """A file, or what stands in a file's place. read: all its bytes, at most so many, or `Refused`."""

    parts: tuple[str, ...]
    size: int
    read: Callable[[int], bytes]
    refused: str = ""  # why it is not read: "is a link"

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        return self.parts[-1]


def readable(name: str) -> str:
    """A name that can be printed, compared and written to any file: no control characters, no lone surrogates."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    text = "".join(" " if char.isspace() else char if char.isprintable() else "?" for char in text).strip()
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


# ---- of folders ---------------------------------------------------------------------------------------------------


def folder_entries(root: Path, names: Iterable[str] | None = None) -> Iterator[Entry]:
    """All files below a folder, or those of its entries that are named; folders of a listing are not descended into."""
    if names is not None:
        for name in names:
            yield _disk_entry(root, (name,), os.lstat(root / name))
        return
    count = 0
    folders: list[tuple[str, ...]] = [()]
    while folders:
        parts = folders.pop()
        descriptor = _descend(root, parts)
        try:
            with os.scandir(descriptor) as found:
                listing = sorted(found, key=lambda entry: entry.name)
                for entry in listing:
                    path = (*parts, entry.name)
                    count += 1
                    if count > MAX_ENTRIES:
                        raise Refused(TOO_MANY)
                    if _LITTER.fullmatch(entry.name):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if trouble := _name_trouble(path):
                        yield Entry(path, 0, _unread, trouble)
                    elif stat.S_ISDIR(status.st_mode):
                        folders.append(path)
                    else:
                        yield _disk_entry(root, path, status)
        except PermissionError:
            yield Entry((*parts, ""), 0, _unread, "cannot be opened")
        finally:
            os.close(descriptor)


def _disk_entry(root: Path, parts: tuple[str, ...], status: os.stat_result) -> Entry:
    return Entry(parts, status.st_size, lambda limit: _read_file(root, parts, limit), _file_trouble(status))


def _file_trouble(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_nlink > 1:  # it may be another student's, or none of this course's
        return "is a hard link, which may belong to somebody else (copy the folder)"
    return ""


def _descend(root: Path, parts: tuple[str, ...]) -> int:
    """A descriptor of the folder, reached from `root` without following a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)  # the teacher's own path may have links in it
    for part in parts:
        try:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def open_beneath(root: Path, parts: tuple[str, ...]) -> IO[bytes]:
    """Raises `Refused` for everything but a regular file of one name; never blocks on what is none."""
    folder = _descend(root, parts[:-1])
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=folder)
    except OSError as error:
        raise Refused(f"cannot be opened ({error.strerror})") from error
    finally:
        os.close(folder)
    file = os.fdopen(descriptor, "rb")
    if trouble := _file_trouble(os.fstat(descriptor)):
        file.close()
        raise Refused(trouble)
    return file


def _read_file(root: Path, parts: tuple[str, ...], limit: int) -> bytes:
    with open_beneath(root, parts) as file:
        return _bounded(file.read(limit + 1), limit, os.fstat(file.fileno()).st_size)


def _bounded(data: bytes, limit: int, size: int) -> bytes:
    if len(data) > limit:
        raise Refused(f"has {max(size, len(data)):,} bytes, more than the {limit:,} that are read")
    return data


def _unread(limit: int) -> bytes:
    raise Refused("is not read")


def _name_trouble(parts: Sequence[str]) -> str:
    if len(parts) > MAX_DEPTH:
        return "lies too deep in folders"
    if len(parts[-1]) > MAX_NAME:
        return "has too long a name"
    if not parts[-1].isprintable() or "\\" in parts[-1]:
        return "has a name with characters that cannot be used"
    return ""


# ---- of zips ------------------------------------------------------------------------------------------------------


class _Frugal:
    """A file for `zipfile` that lends no more at once than a table of contents may take."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size if 0 <= size <= MAX_DIRECTORY else MAX_DIRECTORY + 1)
        if len(data) > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its table of contents is too large")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def open_zip(file: IO[bytes], name: str) -> zipfile.ZipFile:
    """Raises `Refused` for what is no zip, and for one that unpacks to too much or whose entries overlap."""
    try:
        opened = zipfile.ZipFile(_Frugal(file))
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        struct.error,
        UnicodeError,
        OverflowError,
    ) as error:
        raise Refused(f"{name} is no zip that can be read ({readable(str(error))}).") from error
    infos = opened.infolist()
    packed, unpacked = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    trouble = ""
    if len(infos) > MAX_ENTRIES:
        trouble = f"holds {len(infos):,} files, more than {MAX_ENTRIES:,}: leave data and environments out"
    elif unpacked > MAX_UNPACKED or (unpacked > RATIO_FROM and unpacked > MAX_RATIO * packed):
        trouble = f"has {packed:,} bytes that unpack to {unpacked:,}: it is a zip bomb"
    elif _overlap(infos):
        trouble = "has entries that lie one over the other: it is a zip bomb"
    if trouble:
        opened.close()
        raise Refused(f"{name} {trouble}.")
    return opened


def _overlap(infos: Iterable[zipfile.ZipInfo]) -> bool:
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            return True
        end = info.header_offset + 30 + info.compress_size  # 30: a local header without its name
    return False


def zip_entries(
    opened: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo], base: tuple[str, ...] = (), prefix: str = ""
) -> Iterator[Entry]:
    """The files among these entries of a zip, without litter, their paths below `prefix` made safe."""
    seen: set[tuple[str, ...]] = set()
    for info in infos:
        name = info.filename[len(prefix) :].replace("\\", "/")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if info.is_dir() or name.endswith("/") or any(_LITTER.fullmatch(part) and part != ".." for part in parts):
            continue
        entry = zip_entry(opened, info, (*base, *(parts or ("?",))))
        troubles = [_name_trouble(parts[: depth + 1]) for depth in range(min(len(parts), MAX_DEPTH + 1))]
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            entry = replace(entry, refused="leads out of the submission")
        elif not parts or any(troubles):
            entry = replace(entry, refused=next(filter(None, troubles), "has no name"))
        elif parts in seen:
            raise Refused(f"{readable(name)} is there twice in the zip.")
        seen.add(parts)
        yield entry


def zip_entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo, parts: tuple[str, ...]) -> Entry:
    mode = stat.S_IFMT(info.external_attr >> 16)
    refused = ""
    if mode == stat.S_IFLNK:
        refused = "is a link"
    elif mode not in (0, stat.S_IFREG):
        refused = "is no regular file"
    elif info.flag_bits & 0x1:
        refused = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused = "is packed by a method that is not read here (zip it again)"
    return Entry(parts, info.file_size, lambda limit: _read_member(opened, info, limit), refused)


def _read_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Never unpacks more than `limit` + 1 bytes, whatever the zip says of itself."""
    if info.file_size > limit:
        raise Refused(f"has {info.file_size:,} bytes, more than the {limit:,} that are read")
    try:
        with opened.open(info) as file:
            data = _bounded(file.read(limit + 1), limit, info.file_size)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        struct.error,
    ) as e:
        raise Refused("is damaged in the zip") from e
    if len(data) != info.file_size:
        raise Refused("is damaged in the zip")
    return data
