"""Untrusted files of folders and zips, one by one: listed, bounded, and read without surprises.

No link is followed, no FIFO waited for, nothing unpacked beyond its bounds. What is not read says why, in words for the
student.
"""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any

from autograder.intake.text import readable
from hw7.solution import path_trouble

MAX_ZIP = 256_000_000  # of a student's zip, packed
MAX_UNPACKED = 4_000_000_000  # declared, of all that is in a student's zip
MAX_RATIO = 200  # unpacked to packed, of a zip that unpacks to more than RATIO_FROM
RATIO_FROM = 100_000_000
MAX_DIRECTORY = 8_000_000  # bytes of a zip's table of contents
MAX_ENTRIES = 20_000
TOO_MANY = f"More than {MAX_ENTRIES:,} files: leave data and environments out."

# What systems and editors leave behind: in a submission, where nothing hidden counts, and on the first level of a
# class, where a name that begins with a dot may be a student's.
_LITTER = re.compile(r"\.[^/]*|__MACOSX|__pycache__|Thumbs\.db|desktop\.ini|.*\.py[co]", re.IGNORECASE)
_LITTER_OF_A_CLASS = re.compile(
    r"\.DS_Store|\._.*|__MACOSX|Thumbs\.db|desktop\.ini|\.git(ignore|attributes|keep)?|__pycache__|\.ipynb_checkpoints",
    re.IGNORECASE,
)
# What `zipfile` raises for zips that somebody has damaged or made up.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip


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


def _kind_trouble(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "is a link"
    return "" if stat.S_ISREG(mode) else "is no regular file"


def _bounded(read: Callable[[int], bytes], limit: int, size: int) -> bytes:
    """All of a file that says it has `size` bytes; whatever it has, no more than `limit` + 1 of them are read."""
    data = read(limit + 1) if size <= limit else b""
    size = max(size, len(data))
    if size > limit:
        raise Refused(f"has {size:,} bytes, more than the {limit:,} that are read")
    return data


# ---- of folders ---------------------------------------------------------------------------------------------------


def folder_entries(root: Path) -> Iterator[Entry]:
    """All files below a folder, without litter."""
    count = 0
    folders: list[tuple[str, ...]] = [()]
    while folders:
        parts = folders.pop()
        try:
            with _descended(root, parts) as descriptor, os.scandir(descriptor) as found:
                listing = islice(found, MAX_ENTRIES + 1)  # of a folder with millions of files
                for entry in sorted(listing, key=lambda entry: entry.name):
                    path = (*parts, entry.name)
                    count += 1
                    if count > MAX_ENTRIES:
                        raise Refused(TOO_MANY)
                    if _LITTER.fullmatch(entry.name):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if trouble := path_trouble(path):
                        yield Entry(path, 0, _unread, trouble)
                    elif stat.S_ISDIR(status.st_mode):
                        folders.append(path)
                    else:
                        yield _disk_entry(root, path, status)
        except PermissionError:
            if not parts:
                raise
            yield Entry((*parts, ""), 0, _unread, "cannot be opened")


def file_entry(path: Path) -> Entry:
    """The file of this path, or what stands there."""
    return _disk_entry(path.parent, (path.name,), os.lstat(path))


def _disk_entry(root: Path, parts: tuple[str, ...], status: os.stat_result) -> Entry:
    def read(limit: int) -> bytes:
        with _open_beneath(root, parts) as file:
            return _bounded(file.read, limit, os.fstat(file.fileno()).st_size)

    return Entry(parts, status.st_size, read, _file_trouble(status))


def _file_trouble(status: os.stat_result) -> str:
    trouble = _kind_trouble(status.st_mode)
    if not trouble and status.st_nlink > 1:  # it may be another student's, or none of this course's
        return "is a hard link, which may belong to somebody else (copy the folder)"
    return trouble


@contextmanager
def _descended(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of the folder, reached from `root` without following a link; it is closed afterwards."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)  # the teacher's own path may have links in it
    for part in parts:
        try:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_beneath(root: Path, parts: tuple[str, ...]) -> IO[bytes]:
    """Raises `Refused` for everything but a regular file of one name; never blocks on what is none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with _descended(root, parts[:-1]) as folder:
        try:
            descriptor = os.open(parts[-1], flags, dir_fd=folder)
        except OSError as error:
            raise Refused(f"cannot be opened ({error.strerror})") from error
    file = os.fdopen(descriptor, "rb")
    if trouble := _file_trouble(os.fstat(descriptor)):
        file.close()
        raise Refused(trouble)
    return file


def _unread(limit: int) -> bytes:
    raise Refused("is not read")


# ---- of zips ------------------------------------------------------------------------------------------------------


class _FrugalFile:
    """A file for `zipfile` that lends no more at once, while the zip is being opened, than a table of contents may
    take, and no table of more than MAX_ENTRIES, which would be made into as many objects."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.opening = True

    def read(self, size: int = -1) -> bytes:
        if not self.opening:
            return self.file.read(size)
        data = self.file.read(size if 0 <= size <= MAX_DIRECTORY else MAX_DIRECTORY + 1)
        if len(data) > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its table of contents is too large")
        if (count := data.count(b"PK\1\2")) > MAX_ENTRIES:  # each entry of a table begins so
            raise Refused(f"holds {count:,} files, more than {MAX_ENTRIES:,}: leave data and environments out")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def open_zip(file: IO[bytes], name: str) -> zipfile.ZipFile:
    """Raises `Refused` for what is no zip, and for one that unpacks to too much or whose entries overlap."""
    frugal = _FrugalFile(file)
    try:
        opened = zipfile.ZipFile(frugal)
    except Refused as reason:
        raise Refused(f"{name} {reason}.") from reason
    except _ZIP_ERRORS as error:
        raise Refused(f"{name} is no zip that can be read ({readable(str(error))}).") from error
    frugal.opening = False
    infos = opened.infolist()
    packed, unpacked = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    ordered = sorted(infos, key=lambda info: info.header_offset)
    trouble = ""
    if unpacked > MAX_UNPACKED or (unpacked > RATIO_FROM and unpacked > MAX_RATIO * packed):
        trouble = f"has {packed:,} bytes that unpack to {unpacked:,}: it is a zip bomb"
    elif any(info.header_offset + 30 + info.compress_size > after.header_offset for info, after in pairwise(ordered)):
        # 30: bytes of an entry's own header without its name
        trouble = "has entries that lie one over the other: it is a zip bomb"
    if trouble:
        opened.close()
        raise Refused(f"{name} {trouble}.")
    return opened


def zip_entries(opened: zipfile.ZipFile, base: tuple[str, ...] = (), prefix: str = "") -> Iterator[Entry]:
    """The files of a zip below `prefix`, without litter, their paths from there on made safe and put below `base`."""
    infos = [info for info in opened.infolist() if info.filename.startswith(prefix)]
    if len(infos) > MAX_ENTRIES:
        raise Refused(TOO_MANY)
    seen: set[tuple[str, ...]] = set()
    for info in infos:
        name = info.filename[len(prefix) :].replace("\\", "/")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if info.filename.endswith(("/", "\\")) or any(_LITTER.fullmatch(part) and part != ".." for part in parts):
            continue
        trouble = path_trouble(parts) if parts else "has no name"
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            trouble = "leads out of the submission"
        elif not trouble and parts in seen:
            raise Refused(f"{readable(name)} is there twice in the zip.")
        seen.add(parts)
        entry = _zip_entry(opened, info, (*base, *(parts or ("?",))))
        yield replace(entry, refused=trouble) if trouble else entry


def _zip_entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo, parts: tuple[str, ...]) -> Entry:
    mode = info.external_attr >> 16
    trouble = _kind_trouble(mode) if stat.S_IFMT(mode) else ""  # zips made on Windows say no kind
    if not trouble and info.flag_bits & 0x1:
        trouble = "is encrypted"
    elif not trouble and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        trouble = "is packed by a method that is not read here (zip it again)"

    def read(limit: int) -> bytes:
        try:
            with opened.open(info) as file:
                data = _bounded(file.read, limit, info.file_size)
            if len(data) != info.file_size:
                raise EOFError
            return data
        except _ZIP_ERRORS as error:
            raise Refused("is damaged in the zip") from error

    return Entry(parts, info.file_size, read, trouble)


# ---- of what was handed in -----------------------------------------------------------------------------------------


def entries_at(path: Path, members: Collection[tuple[str, str]], stack: ExitStack) -> Iterator[Entry]:
    """All files of a student's folder or zip, without litter; with members, as in `Location`, these of a shared one.

    Raises `Refused` for what is too much or no submission. Zips stay open until `stack` is closed.
    """
    if members:
        yield from _member_entries(path, members, stack)
        return
    mode, name = os.lstat(path).st_mode, readable(path.name)
    if stat.S_ISDIR(mode):
        yield from folder_entries(path)
        return
    if stat.S_ISLNK(mode):
        raise Refused("The submission is a link, which is not followed.")
    if not stat.S_ISREG(mode):
        raise Refused("The submission is neither a folder nor a file.")
    if path.suffix.lower() != ".zip":
        raise Refused(f"{name} is neither a folder nor a zip: hand in a zip.")
    entry = file_entry(path)
    if entry.refused:
        raise Refused(f"{name} {entry.refused}: not read.")
    if entry.size > MAX_ZIP:
        raise Refused(f"{name} has {entry.size:,} bytes; at most {MAX_ZIP:,} are read.")
    file = stack.enter_context(_open_beneath(path.parent, entry.parts))
    yield from zip_entries(stack.enter_context(open_zip(file, name)))


def _member_entries(path: Path, members: Collection[tuple[str, str]], stack: ExitStack) -> Iterator[Entry]:
    if path.is_dir():
        for name, called in members:
            yield _checked(replace(file_entry(path / name), parts=(called,)))
        return
    outer = stack.enter_context(zipfile.ZipFile(path))
    for name, called in members:
        yield from zip_entries(outer, (called,) if called else (), f"{name}/")
        for info in outer.infolist():
            if info.filename == name:
                yield _checked(_zip_entry(outer, info, (called or PurePosixPath(name).name,)))


def _checked(entry: Entry) -> Entry:
    """The entry, refused where its name cannot be used: a platform leaves a file the name that its student gave it."""
    return replace(entry, refused=entry.refused or path_trouble(entry.parts))


# ---- a look at the first level of a class ----------------------------------------------------------------------


class Folder:
    """A folder of the disk or of a zip, told by the names in it. prefix: its path in the zip.

    children: name -> "folder", "file" or "other", sorted; no litter, and none of the paths in `without`. folders: the
    names of those that are folders.
    """

    def __init__(
        self, path: Path, opened: zipfile.ZipFile | None, prefix: str = "", without: Collection[Path] = ()
    ) -> None:
        self.path, self.zip, self.prefix = path, opened, prefix
        kinds: dict[str, str] = {}
        if opened is None:
            here = path.resolve()
            with os.scandir(path) as entries:
                for entry in entries:
                    if here / entry.name not in without:
                        folder, file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
                        kinds[entry.name] = "folder" if folder else "file" if file else "other"
        else:
            for name in opened.namelist():
                if name.startswith(prefix):
                    first, slash, _ = name[len(prefix) :].partition("/")
                    if slash or first not in kinds:
                        kinds[first] = "folder" if slash else "file"
            if "" in kinds and not prefix:  # an absolute path
                kinds["/"] = kinds[""]
        self.children = {n: kinds[n] for n in sorted(kinds) if n and not _LITTER_OF_A_CLASS.fullmatch(n)}
        self.folders = [name for name, kind in self.children.items() if kind == "folder"]

    def below(self, name: str) -> "Folder":
        if self.zip is None:
            return Folder(self.path / name, None)
        return Folder(self.path, self.zip, f"{self.prefix}{name}/")

    def read(self, name: str, limit: int) -> bytes:
        if self.zip is None:
            return file_entry(self.path / name).read(limit)
        return _zip_entry(self.zip, self.zip.getinfo(self.prefix + name), (name,)).read(limit)
