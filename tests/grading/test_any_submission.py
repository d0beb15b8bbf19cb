"""Any archive, any folder, any name: one submission's bytes become its own verdict, and a child can hold what is taken.

Hypothesis looks for more. It draws the same examples each time, so that a run in CI does not hang on luck.
"""

import os
import stat
import tempfile
import warnings
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import made_up_grades
import pytest
from handed_in import RIGHT, assert_right, packed, said, under, write
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from autograder.exports import export
from autograder.intake.layouts import find_submissions
from autograder.intake.submission import Location, Submission, take_in
from autograder.jail.inside import _write_files
from autograder.jail.protocol import TRUSTED, Reader, encode
from autograder.journal import Journal, read_journals
from hw7 import HW7Error
from hw7.solution import MAX_PATH

EXAMPLES = int(os.environ.get("HW7_EXAMPLES", "30"))  # by hand: thousands
STEADY = settings(
    derandomize=True, database=None, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck)
)


def of_zip(folder: Path, data: bytes) -> Submission:
    (folder / "ann.zip").write_bytes(data)
    return take_in(Location("ann", folder / "ann.zip"))


def can_be_graded(submission: Submission) -> None:
    """What is taken can be sent to a child and written there; and its grade to the journal and every export."""
    assert submission.problem or submission.files
    assert all(text.isprintable() for text in (*submission.remarks, submission.problem))
    sent = encode(0, 0, "", submission.files)
    (received,) = Reader(TRUSTED).feed(sent)
    assert received.values == submission.files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_files(folder, submission.files)
        for path, data in submission.files.items():
            assert (folder / path).read_bytes() == data
        grade = replace(
            made_up_grades.grade(submission.student, 0.5),
            submission=submission.digest, remarks=submission.remarks, problem=submission.problem,
        )  # fmt: skip
        with Journal(folder / "journal.jsonl") as journal:
            journal.append(grade)
        assert [each.remarks for each in read_journals(folder)] == [grade.remarks]
        for to in ("csv", "html", "gradescope"):
            export(to, [grade], made_up_grades.RUBRIC, folder / to)


# ---- a file where a folder has to be, and paths that nothing can hold --------------------------------------------

LONG = "/".join(["d" * 90] * 3) + "/x.py"

COLLISIONS = {
    "a file and a folder": ({"solution/a.py": b"1", "solution/a.py/b.py": b"2"}, "solution/a.py is a file"),
    "the folder first": ({"solution/a.py/b.py": b"2", "solution/a.py": b"1"}, "solution/a.py is a file"),
    "renamed": ({"solution/x.PY": b"1", "solution/x.py/y.py": b"2"}, "solution/x.py is a file"),
    "renamed, deeper": ({"solution/d/x.Py": b"1", "solution/d/x.py/y/z.py": b"2"}, "solution/d/x.py is a file"),
    "a module": ({"solution/models.py/__init__.py": b"2"}, "solution/models.py is a file"),
    "in another case": ({"solution/Part.py": b"1", "solution/part.PY/b.py": b"2"}, "solution/Part.py is a file"),
    "as another system writes it": (
        {"solution/\u00e9.py": b"1", "solution/e\u0301.py/b.py": b"2"},
        "solution/\u00e9.py is a file",
    ),
    "a long path": ({f"solution/{LONG}": b""}, f"bytes, more than {MAX_PATH}: not read"),
    "long in bytes": ({"solution/" + "\U0001f980" * 70 + ".py": b""}, f"292 bytes, more than {MAX_PATH}: not read"),
    "long names": ({"solution/" + "n" * 252 + ".py": b""}, "has too long a name: not read"),
}


@pytest.mark.parametrize("name", COLLISIONS)
def test_what_no_child_could_hold_is_left_out(tmp_path: Path, name: str) -> None:
    """The rest is graded: whoever has such a file has lost that file, and a remark says so."""
    files, remark = COLLISIONS[name]
    submission = of_zip(tmp_path, packed({**files, **RIGHT}))
    assert submission.files.items() >= {each: data for each, data in RIGHT.items() if each.endswith(".py")}.items()
    assert b"2" not in submission.files.values()
    assert any(remark in each for each in submission.remarks), submission.remarks
    can_be_graded(submission)


def test_exactly_the_longest_path(tmp_path: Path) -> None:
    for size in (MAX_PATH, MAX_PATH + 1):
        path = f"solution/{'d' * 90}/{'e' * 90}/"
        path += "f" * (size - len(path) - 3) + ".py"
        submission = of_zip(tmp_path, packed({path: b"", **RIGHT}))
        assert (path in submission.files) == (size == MAX_PATH)
        can_be_graded(submission)


@pytest.mark.parametrize("layout", ["folder", "zip"])
@pytest.mark.parametrize("name", ["\x1b[31m.py", "a\\b.py", "n" * 120 + ".py", os.fsdecode(b"\xff\xfe.py")])
def test_a_file_that_a_platform_names_after_its_student(tmp_path: Path, name: str, layout: str) -> None:
    """Moodle's files keep the name that the student gave them, behind one that says whose they are."""
    files = {path.removeprefix("solution/"): data for path, data in RIGHT.items()} | {name: b"evil"}
    owned = {f"Ann_1_assignsubmission_file_{path}": data for path, data in files.items()}
    owned |= {"Bob_2_assignsubmission_file_hw7.zip": packed(RIGHT)}
    if layout == "folder":
        root = write(tmp_path / "class", owned)
    elif not name.isascii():
        pytest.skip("a zip has no such name")
    else:
        root = tmp_path / "class.zip"
        root.write_bytes(packed(owned))
    ann, bob = map(take_in, find_submissions(root).found)
    assert_right(ann)
    said(ann, "not read")
    assert_right(bob)
    can_be_graded(ann)


# ---- whatever Hypothesis thinks of -------------------------------------------------------------------------------

PARTS = st.one_of(
    st.sampled_from(["solution", "solution", "Solution", "hw7", "d", "D", "__pycache__", "..", ".", "a.zip"]),
    st.sampled_from(
        [f"{name}{end}" for name in ("models", "LOSSES", "x", "X", "\u00e9", "e\u0301", "\ufb01", "\u00df", "con", "a.")
         for end in (".py", ".PY", ".Py")]
    ),
    st.sampled_from(["hw7.ipynb", "Hw7.ipynb", "weights.safetensors", "README", ".git", "n" * 99 + ".py"]),
    st.just("\U0001f980" * 80),
    st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8).map(lambda text: text + ".py"),
)  # fmt: skip
CLOSE = st.lists(st.sampled_from(["x.py", "X.PY", "x.Py", "d"]), min_size=1, max_size=3)  # files in each other's place
PATHS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=6).map("/".join),
    PARTS.map("solution/{}".format),
    CLOSE.map("/".join).map("solution/{}".format),
)
MODES = st.sampled_from([0, 0, 0, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR, stat.S_IFIFO])
DATA = st.sampled_from([b"", b"x = 1\n", b"\0", b"\xff\xfe", b'{"cells": []}', b"PK\3\4"])


def archive(entries: list[tuple[str, bytes, int]]) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.create_system, info.external_attr = 3, mode << 16
            file.writestr(info, data)
    return buffer.getvalue()


ARCHIVES = st.recursive(
    st.lists(st.tuples(PATHS, DATA, MODES), max_size=12).map(archive),
    lambda inner: st.lists(st.tuples(PATHS | st.just("in.zip"), DATA | inner, MODES), max_size=6).map(archive),
    max_leaves=4,
)


@STEADY
@given(ARCHIVES, st.booleans(), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3))
def test_any_archive(data: bytes, honest: bool, changes: list[tuple[int, int]]) -> None:
    """Alone or around a right submission, whole or with a few bytes changed."""
    if honest:
        data = packed({**RIGHT, "more.zip": data})
    changed = bytearray(data)
    for place, byte in changes:
        changed[place % len(changed)] = byte
    with tempfile.TemporaryDirectory() as folder:
        can_be_graded(of_zip(Path(folder), bytes(changed)))


def on_disk(root: Path, path: str, data: bytes) -> None:
    """The file, where the system takes it."""
    try:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    except (OSError, ValueError, UnicodeError):
        pass


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name).map(os.fsdecode)


@STEADY
@given(st.lists(st.tuples(PATHS | NAMES.map("solution/{}.py".format), DATA), max_size=12), st.booleans())
def test_any_folder(files: list[tuple[str, bytes]], honest: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "ann")
        write(root, RIGHT if honest else {"x": b""})
        for path, data in files:
            if ".." not in path:
                on_disk(root, path, data)
        can_be_graded(take_in(Location("ann", root)))


WHOSE = ("Ann_1_assignsubmission_file_{}", "ann_1_2_{}", "HW7_ann_attempt_2020-05-01-12-30-00_{}",
         "1-2 - Ann - Oct 10, 2025 1022 AM - {}", "ann{}")  # fmt: skip
GIVEN = st.one_of(NAMES, PARTS, st.from_regex(r"[\w-]{1,8}(-\d{1,3})?\.(zip|py)", fullmatch=True), st.just("9" * 200))


@STEADY
@given(st.sampled_from(WHOSE), st.lists(st.tuples(GIVEN, DATA), max_size=5), st.booleans())
def test_any_name_in_a_class(whose: str, files: list[tuple[str, bytes]], as_zip: bool) -> None:
    """Whatever one student calls a file, everybody else's submission is found and right."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "class")
        honest = {"bob": RIGHT, "cy": RIGHT, "dora": RIGHT}
        mark = {"Ann": "Bob"} if "Ann" in whose else {"ann": "bob"}
        for student in honest:
            own = whose.replace(next(iter(mark)), student).replace("{}", "" if whose == "ann{}" else "hw7")
            write(root, {f"{own}.zip": packed(RIGHT)})
        for given_name, data in files:
            if given_name not in ("..", "."):
                on_disk(root, whose.format(given_name), data)
        if as_zip:
            entries = [
                (path.relative_to(root).as_posix(), path.read_bytes(), 0) for path in root.rglob("*") if path.is_file()
            ]
            root = Path(name, "class.zip")
            root.write_bytes(archive(entries))
        try:
            found = find_submissions(root).found
        except HW7Error:
            reject()  # nothing there that tells a layout
        for location in found:
            can_be_graded(take_in(location))
        right = [each for each in map(take_in, found) if not each.problem]
        assert len(right) >= len(honest)


def test_a_submission_in_twenty_thousand_folders(tmp_path: Path) -> None:
    """Each looks like one: a reason, in no more time than it takes to list them."""
    names = under("solution/", {f"{number}/solution/models.py": b"" for number in range(9_000)})
    submission = of_zip(tmp_path, packed({name.removeprefix("solution/"): data for name, data in names.items()}))
    said(submission, "9000 folders that could be your submission")
