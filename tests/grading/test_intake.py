"""Whatever is handed in becomes a submission or a reason: every layout, every trick with files and zips."""

import os
import socket
import stat
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from handed_in import RIGHT, SOURCE, as_nobody, assert_right, packed, said, under, write

from autograder.intake import entries
from autograder.intake.layouts import find_submissions
from autograder.intake.submission import MAX_REMARKS, Location, Submission, take_in
from hw7.solution import MOST_READ, WEIGHTS


def all_in(root: Path) -> dict[str, Submission]:
    return {found.student: take_in(found) for found in find_submissions(root).found}


def the_one(root: Path) -> Submission:
    (found,) = find_submissions(root).found
    return take_in(found)


def of_zip(tmp_path: Path, data: bytes) -> Submission:
    write(tmp_path / "class", {"ann.zip": data})
    return the_one(tmp_path / "class")


# ---- where the submission is in what was handed in -----------------------------------------------------------

MODULES = {name.removeprefix("solution/"): data for name, data in SOURCE.items()}
BESIDE = {name: data for name, data in RIGHT.items() if name not in SOURCE}

PLACES: dict[str, tuple[dict[str, bytes], str]] = {
    "in folders": (under("hw7/hw7-main/"), "hw7/hw7-main/solution/ was taken for solution/"),
    "another case": ({**under("Solution/", MODULES), **BESIDE}, "Solution/ was taken for solution/"),
    "a module in another case": (
        {name.replace("models.py", "Models.PY"): data for name, data in RIGHT.items()},
        "solution/Models.PY was taken for solution/models.py",
    ),
    "no folder": ({**MODULES, **BESIDE}, "The first level was taken for solution/"),
    "another folder": ({**under("code/", MODULES), **BESIDE}, "code/ was taken for solution/"),
    "the first one counts": ({**RIGHT, **under("backup/")}, "Only solution/ was graded, not backup/solution/"),
    "with litter": (
        {
            **RIGHT,
            "__MACOSX/solution/._models.py": b"\0",
            "solution/.DS_Store": b"\0",
            "solution/__pycache__/models.cpython-311.pyc": b"\0",
            "solution/__pycache__/evil.py": b"import os",
            ".git/solution/models.py": b"",
        },
        "",
    ),
    "with more": (
        {**RIGHT, "README.md": b"", "data/1.png": b"", "data/2.png": b"", "solution/notes.txt": b""},
        "No part of a submission, ignored: data/ (2 files), README.md, solution/ (1 file)",
    ),
    "weights elsewhere": (
        {**SOURCE, "hw7.ipynb": b"{}", "out/Weights.safetensors": b"weights"},
        "out/Weights.safetensors was taken for weights.safetensors",
    ),
    "a zip in it": ({"hw7.zip": packed(RIGHT), "note.txt": b""}, "hw7.zip was unpacked"),
    "a zip in a folder in it": ({"ann/hw7.zip": packed(RIGHT)}, ""),
}


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", PLACES)
def test_places(tmp_path: Path, name: str, as_zip: bool) -> None:
    files, remark = PLACES[name]
    write(tmp_path / "class", {"ann.zip": packed(files)} if as_zip else under("ann/", files))
    submission = the_one(tmp_path / "class")
    assert_right(submission)
    if remark:
        said(submission, remark)
    else:
        assert submission.remarks == ()


REFUSED: dict[str, tuple[dict[str, bytes], tuple[str, ...]]] = {
    "two of them": ({**under("old/"), **under("new/")}, ("2 folders that could be", "old/solution/", "new/solution/")),
    "two zips": ({"v1.zip": packed(RIGHT), "v2.zip": packed(RIGHT)}, ("2 folders that could be", "v1.zip/solution/")),
    "nothing": ({"readme.txt": b""}, ("no folder solution/", "readme.txt")),
    "another archive": ({"hw7.rar": b"Rar!"}, ("no folder solution/", "hw7.rar")),
    "a broken zip": ({"hw7.zip": b"PK\3\4 half"}, ("hw7.zip is no zip that can be read",)),
    "too much source": (
        {**RIGHT, "solution/table.py": b"#" * 1_000_000},
        ("The source under solution/ has 1,000,", "at most 1,000,000"),
    ),
    "too many files": ({**RIGHT, **{f"solution/m{n}.py": b"" for n in range(200)}}, ("205 Python files are too many",)),
}


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str, as_zip: bool) -> None:
    files, words = REFUSED[name]
    write(tmp_path / "class", {"ann.zip": packed(files)} if as_zip else under("ann/", files))
    submission = the_one(tmp_path / "class")
    assert submission.problem
    assert (submission.files, submission.weights, submission.notebook) == ({}, None, None)
    said(submission, *words)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"ann/solution/losses.py": b"", "ann/solution/models/__init__.py": b""})
    submission = the_one(tmp_path)
    assert submission.problem == ""
    said(submission, "pruning.py is missing", "quantization.py is missing", "weights.safetensors is", "hw7.ipynb is")
    assert not any("models.py" in remark or "losses.py" in remark for remark in submission.remarks)


def test_exactly_the_allowed_source(tmp_path: Path) -> None:
    filler = 1_000_000 - sum(map(len, SOURCE.values()))
    write(tmp_path, under("ann/", {**RIGHT, "solution/deep/er/helper.py": b"#" * filler}))
    submission = the_one(tmp_path)
    assert submission.problem == ""
    assert sum(map(len, submission.files.values())) == 1_000_000


def test_two_modules_that_differ_in_case_only(tmp_path: Path) -> None:
    submission = of_zip(tmp_path, packed({**RIGHT, "solution/MODELS.py": b"other"}))
    assert_right(submission)
    said(submission, "solution/MODELS.py was ignored")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("x = 'é'\n".encode("utf-8-sig"), ""),
        ("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"), "is not UTF-8 but iso-8859-1"),
        ("x = 'é'\n".encode("latin-1"), "is not UTF-8 text"),
        ("x = 'é'\n".encode("utf-16"), "is UTF-16"),
        (b"x = 1\0", "zero bytes"),
        (b"# coding: punycode\nx = 1\n", "punycode"),
        (b"# coding: none-such\nx = 1\n", "is not UTF-8 text"),
    ],
)
def test_encodings_of_source(tmp_path: Path, data: bytes, words: str) -> None:
    write(tmp_path, under("ann/", {**RIGHT, "solution/losses.py": data}))
    submission = the_one(tmp_path)
    assert submission.files["solution/losses.py"] == data  # what Python makes of it is Python's to say
    assert [remark for remark in submission.remarks if words in remark] == list(submission.remarks)
    assert bool(submission.remarks) == bool(words)


# ---- tricks with files --------------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path.name)
    finally:
        os.chdir(here)


def link_out(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def link_to_another(path: Path) -> None:
    path.symlink_to("../../bob/solution/losses.py")


def hard_link(path: Path) -> None:
    os.link(path.parents[2] / "bob" / "solution" / "losses.py", path)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


TRICKS = [fifo, unix_socket, link_out, link_to_another, hard_link, link_to_itself]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", ["solution/losses.py", "weights.safetensors", "hw7.ipynb"])
def test_what_is_no_file_is_not_read(tmp_path: Path, name: str, trick: Callable[[Path], None]) -> None:
    write(tmp_path, {**under("ann/"), **under("bob/")})
    (tmp_path / "ann" / name).unlink()
    (tmp_path / "bob" / "solution" / "losses.py").write_bytes(b"bob's secret")
    target = tmp_path / "ann" / name
    if name != "solution/losses.py":
        (tmp_path / "ann" / "x").mkdir()
        trick(tmp_path / "ann" / "x" / "file")
        (tmp_path / "ann" / "x" / "file").rename(target)
    else:
        trick(target)
    submission = all_in(tmp_path)["ann"]
    said(submission, f"{name} is", "not read", f"{name} is missing")
    taken = [*submission.files.values(), submission.weights or b"", submission.notebook or b""]
    assert b"secret" not in b"".join(taken)
    assert submission.problem == ""
    assert name not in submission.files


@pytest.mark.parametrize("trick", [fifo, unix_socket, link_out])
@pytest.mark.parametrize("name", ["ann", "ann.zip"])
def test_submissions_that_are_neither_folder_nor_file(tmp_path: Path, name: str, trick: Callable[[Path], None]) -> None:
    write(tmp_path, under("bob/"))
    trick(tmp_path / name)
    submissions = all_in(tmp_path)
    assert submissions["ann"].problem
    assert_right(submissions["bob"])


def test_linked_folders_are_not_entered(tmp_path: Path) -> None:
    write(tmp_path, under("bob/"))
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "solution").symlink_to("../bob/solution")
    (tmp_path / "ann" / "hw7").symlink_to("..")
    submission = all_in(tmp_path)["ann"]
    said(submission, "no folder solution/", "is a link")


def test_a_folder_that_becomes_a_link_while_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, {**under("ann/"), **under("bob/")})
    listed = list(entries.folder_entries(tmp_path / "ann"))
    (tmp_path / "ann" / "solution").rename(tmp_path / "moved")
    (tmp_path / "ann" / "solution").symlink_to("../bob/solution")
    (entry,) = [entry for entry in listed if entry.path == "solution/losses.py"]
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        entry.read(100)


def test_depth_names_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, under("ann/"))
    write(tmp_path, {"ann/" + "d/" * 30 + "x.py": b"", "ann/" + "n" * 200 + ".py": b"", "ann/a\x1b[31mb.py": b""})
    (tmp_path / os.fsdecode(b"ann/caf\xe9.py")).write_bytes(b"")
    submission = the_one(tmp_path)
    assert_right(submission)
    said(submission, "too deep", "too long a name", "characters that cannot be used")
    assert all(remark.isprintable() for remark in submission.remarks)
    monkeypatch.setattr(entries, "MAX_ENTRIES", 5)
    said(the_one(tmp_path), "files: leave data and environments out")


def test_files_over_their_limits(tmp_path: Path) -> None:
    write(tmp_path, under("ann/"))
    for name, size in (("weights.safetensors", MOST_READ[WEIGHTS] + 1), ("hw7.ipynb", 1 << 40)):
        os.truncate(tmp_path / "ann" / name, size)  # holes: no bytes on the disk
    submission = the_one(tmp_path)
    assert (submission.weights, submission.notebook) == (None, None)
    said(submission, "weights.safetensors has 64,000,001 bytes", "hw7.ipynb has 1,099,511,627,776 bytes")


def test_many_remarks_are_cut(tmp_path: Path) -> None:
    write(tmp_path, under("ann/"))
    for number in range(100):
        (tmp_path / "ann" / f"l{number}").symlink_to("/")
    assert len(the_one(tmp_path).remarks) == MAX_REMARKS + 1


def test_what_may_not_be_opened() -> None:
    with as_nobody() as folder:
        write(folder, {**under("ann/"), "ann/data/x.png": b"", **under("bob/")})
        for closed in ("ann/solution/losses.py", "ann/data", "bob/solution"):
            (folder / closed).chmod(0)
        submissions = all_in(folder)
    said(submissions["ann"], "solution/losses.py cannot be opened", "data/ cannot be opened: not read")
    assert submissions["ann"].problem == ""
    said(submissions["bob"], "There is no folder solution/ with Python files", "solution/ cannot be opened")


def test_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, {**under("ann/"), "bob.zip": packed({"hw7.zip": packed(RIGHT)})})
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    for submission in all_in(tmp_path).values():
        assert_right(submission)
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ---- tricks with zips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.py",
        "../bob/solution/losses.py",
        "solution/../../x.py",
        "C:\\x.py",
        "..\\x.py",
        "solution\\..\\x.py",
    ],
)
def test_paths_that_lead_out_of_a_zip(tmp_path: Path, name: str) -> None:
    submission = of_zip(tmp_path, packed({**RIGHT, name: b"evil"}))
    assert_right(submission)
    said(submission, "leads out of the submission")


@pytest.mark.parametrize("name", ["", "\0hidden.py", ".", "./."])
def test_an_entry_without_a_name_in_a_zip(tmp_path: Path, name: str) -> None:
    buffer = BytesIO(packed(RIGHT))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(zipfile.ZipInfo(name), b"evil")
    submission = of_zip(tmp_path, buffer.getvalue())
    assert_right(submission)
    said(submission, "has no name: not read")


def test_backslashes_from_windows(tmp_path: Path) -> None:
    assert_right(of_zip(tmp_path, packed({name.replace("/", "\\"): data for name, data in RIGHT.items()})))


@pytest.mark.parametrize(
    ("mode", "word"),
    [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is no regular file"), (stat.S_IFCHR, "is no regular file")],
)
def test_entries_of_other_kinds_in_a_zip(tmp_path: Path, mode: int, word: str) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in RIGHT.items():
            info = zipfile.ZipInfo(name)
            if name == "weights.safetensors":
                info.create_system, info.external_attr, data = 3, (mode | 0o777) << 16, b"/etc/passwd"
            file.writestr(info, data)
    submission = of_zip(tmp_path, buffer.getvalue())
    assert submission.weights is None
    said(submission, f"weights.safetensors {word}", "weights.safetensors is missing")


def test_encrypted(tmp_path: Path) -> None:
    data = bytearray(packed(RIGHT))
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    submission = of_zip(tmp_path, bytes(data))
    said(submission, "no folder solution/", "is encrypted")


def test_other_methods_and_damage(tmp_path: Path) -> None:
    said(of_zip(tmp_path, packed(RIGHT, zipfile.ZIP_LZMA)), "packed by a method that is not read")
    data = bytearray(packed(RIGHT, zipfile.ZIP_STORED))
    at = data.find(b"weights", data.find(b"weights.safetensors") + 10)
    data[at] ^= 1
    submission = of_zip(tmp_path, bytes(data))
    assert submission.weights is None
    said(submission, "weights.safetensors is damaged in the zip")


def test_the_same_name_twice(tmp_path: Path) -> None:
    buffer = BytesIO(packed(RIGHT))
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("solution/losses.py", b"other")
    said(of_zip(tmp_path, buffer.getvalue()), "solution/losses.py is there twice")


def overlapping() -> bytes:
    """Two names for one and the same packed bytes."""
    data = packed(RIGHT)
    start = data.find(b"PK\1\2")
    end = data.find(b"PK\5\6")
    first = data[start : data.find(b"PK\1\2", start + 4)]
    entries = data[start:end] + first.replace(b"__init__", b"another_")
    count = len(RIGHT) + 1
    return data[:start] + entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entries), start, 0)


def huge() -> bytes:
    return packed({**RIGHT, "data.bin": bytes(300_000_000)})


def declared_too_small() -> bytes:
    """Says that the weights have 10 bytes; they unpack to 10 MB."""
    data = bytearray(packed({**RIGHT, "weights.safetensors": bytes(10_000_000)}))
    for signature, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = data.find(signature)
        while at >= 0:
            if struct.unpack_from("<L", data, at + offset)[0] == 10_000_000:
                struct.pack_into("<L", data, at + offset, 10)
            at = data.find(signature, at + 1)
    return bytes(data)


def many() -> bytes:
    return packed({f"{number}.txt": b"" for number in range(entries.MAX_ENTRIES + 1)})


def nested() -> bytes:
    data = packed(RIGHT)
    for _ in range(40):
        data = packed({"hw7.zip": data})
    return data


def a_bomb_inside() -> bytes:
    return packed({"hw7.zip": packed({"hw7.zip": bytes(300_000_000)})})


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (overlapping, "lie one over the other"),
        (huge, "zip bomb"),
        (many, "20,001 files"),
        (nested, "no folder solution/"),
        (a_bomb_inside, "zip bomb"),
        (lambda: b"PK\5\6" + b"\xff" * 18, "no zip that can be read"),
        (lambda: b"", "no zip that can be read"),
        (lambda: packed(RIGHT)[:-30], "no zip that can be read"),
    ],
)
def test_bombs_and_broken_zips(tmp_path: Path, make: Callable[[], bytes], word: str) -> None:
    submission = of_zip(tmp_path, make())
    assert submission.problem
    said(submission, word)


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    submission = of_zip(tmp_path, declared_too_small())
    assert submission.weights is None
    assert submission.problem == ""
    said(submission, "weights.safetensors is damaged in the zip")


def test_a_zip_of_zips_may_hold_bad_ones(tmp_path: Path) -> None:
    zips = {"ann.zip": packed(RIGHT), "bob.zip": b"broken", "cy.zip": overlapping()}
    (tmp_path / "all.zip").write_bytes(packed(zips))
    submissions = all_in(tmp_path / "all.zip")
    assert_right(submissions["ann"])
    said(submissions["bob"], "no zip that can be read")
    said(submissions["cy"], "lie one over the other")


def test_any_damage_is_survived(tmp_path: Path) -> None:
    """Every byte of a zip, changed: a submission or a reason, never an exception."""
    data = packed(RIGHT)
    path = tmp_path / "ann.zip"
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        submission = take_in(Location("ann", path))
        assert submission.problem or submission.files


# ---- digests ------------------------------------------------------------------------------------------------


def test_equal_content_has_equal_digests(tmp_path: Path) -> None:
    write(tmp_path, {**under("ann/"), "bob.zip": packed(RIGHT), **under("cy/", {**RIGHT, "README.md": b""})})
    assert len({submission.digest for submission in all_in(tmp_path).values()}) == 1


def test_different_content_has_different_digests(tmp_path: Path) -> None:
    texts = {
        "a": {**RIGHT, "solution/a.py": b"1", "solution/b.py": b""},
        "b": {**RIGHT, "solution/a.py": b"", "solution/b.py": b"1"},
        "c": {**RIGHT, "solution/ab.py": b"1"},
        "d": SOURCE,
        "e": {**SOURCE, "weights.safetensors": b""},
        "f": {**SOURCE, "hw7.ipynb": b""},
        "g": {"readme.txt": b""},
        "h": {**RIGHT, "solution/table.py": b"#" * 100_000},
    }
    for student, files in texts.items():
        write(tmp_path / student, files)
    assert len({submission.digest for submission in all_in(tmp_path).values()}) == len(texts)


def test_large_files_that_a_zip_holds_unpacked(tmp_path: Path) -> None:
    """As some programs store what does not get smaller: no limit of a zip's table of contents is theirs."""
    weights, notebook = bytes(12_000_000), b'{"cells": [], "text": "' + b"x" * 9_000_000 + b'"}'
    with zipfile.ZipFile(tmp_path / "ada.zip", "w", zipfile.ZIP_STORED) as made:
        for name, data in {"solution/models.py": b"", "weights.safetensors": weights, "hw7.ipynb": notebook}.items():
            made.writestr(name, data)
    found = take_in(Location("ada", tmp_path / "ada.zip"))
    assert (found.weights, found.notebook) == (weights, notebook)
