"""A class's folder, however it came: every entry is somebody's submission or is listed, and no student decides how."""

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest
from handed_in import RIGHT, SOURCE, ZIP, all_right, as_nobody, assert_right, packed, said, taken, under, write
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from autograder.cli import LayoutName
from autograder.intake import layouts, platforms
from autograder.intake.layouts import find_submissions
from hw7 import HW7Error
from hw7.solution import PROJECT


def zipped(files: Mapping[str, bytes], path: Path) -> Path:
    path.write_bytes(packed(files))
    return path


# ---- each layout, told by its names ------------------------------------------------------------------------------

METADATA = """---
submission_101:
  :submitters:
  - :name: Ann Lee
    :sid: 'B07901001'
    :email: ann@example.edu
  :created_at: 2020-05-01 12:00:00.000000000 Z
  :results: {}
submission_102:
  :submitters:
  - :name: Bob
    :sid: ''
    :email: bob@example.edu
  - :name: !ruby/object:Evil Cem Çelik
    :sid:
""".encode()

EXPORTS: dict[str, tuple[str, dict[str, bytes], set[str]]] = {
    "folders": ("folders", {**under("ann/"), **under("bob/")}, {"ann", "bob"}),
    "zips": ("folders", {"ann.zip": ZIP, "bob.ZIP": ZIP}, {"ann", "bob"}),
    "one student alone": ("folders", under("ann/"), {"ann"}),
    "with dots": ("folders", {**under(".ann/"), **under("...bob/"), ".cy.zip": ZIP}, {".ann", "...bob", ".cy"}),
    "names like an export's": (
        "folders",
        {**under("ann/"), **under("bob/"), "Cy Lee_12_assignsubmission_file_hw7.zip": ZIP, "doe_1_2_hw7.zip": ZIP},
        {"ann", "bob", "Cy Lee_12_assignsubmission_file_hw7", "doe_1_2_hw7"},
    ),
    "nbgrader course": (
        "nbgrader",
        {**under("submitted/ann/hw7/"), **under("submitted/ann/hw6/"), **under("source/hw7/"), "gradebook.db": b""},
        {"ann"},
    ),
    "nbgrader, another name": ("nbgrader", under("submitted/ann/compression/"), {"ann"}),
    "gradescope": (
        "gradescope",
        {"submission_metadata.yml": METADATA, **under("submission_101/"), **under("submission_102/")},
        {"B07901001", "bob@example.edu", "Cem Çelik"},
    ),
    "moodle folders": (
        "moodle",
        {
            **under("Ann Lee_123_assignsubmission_file_/"),
            "Bób_124_assignsubmission_file_/hw7.zip": packed(under("hw7-main/")),
            "Bób_124_assignsubmission_onlinetext_/onlinetext.html": b"see zip",
            "Cy_125_assignsubmission_file/my hw.zip": ZIP,
        },
        {"Ann Lee_123", "Bób_124", "Cy_125"},
    ),
    "moodle files": (
        "moodle",
        {
            "Ann Lee_123_assignsubmission_file_hw7.zip": ZIP,
            "Bob_124_assignsubmission_file_code.zip": packed(SOURCE),
            "Bob_124_assignsubmission_file_weights.safetensors": b"weights",
            "Bob_124_assignsubmission_file_hw7.ipynb": b"{}",
        },
        {"Ann Lee_123", "Bob_124"},
    ),
    "canvas": (
        "canvas",
        {"doejane_LATE_12345_67890_hw7-1.zip": ZIP, "leeann_12346_67891_solution.zip": ZIP},
        {"doejane_12345", "leeann_12346"},
    ),
    "canvas, loose files": (
        "canvas",
        {
            "doejane_1_10_code.zip": packed(SOURCE),
            "doejane_1_11_weights.safetensors": b"weights",
            "doejane_1_12_hw7.ipynb": b"{}",
        },
        {"doejane_1"},
    ),
    "blackboard": (
        "blackboard",
        {
            "Homework 7_jdoe_attempt_2020-05-01-12-30-00.txt": b"Name: Jane Doe",
            "Homework 7_jdoe_attempt_2020-05-01-12-30-00_hw7.zip": ZIP,
            "Homework 7_alee_attempt_2020-05-01-12-31-00_hw7.zip": ZIP,
        },
        {"jdoe", "alee"},
    ),
    "blackboard, one student": (
        "blackboard",
        {"HW_7_jdoe_attempt_2020-05-01-12-30-00_hw7.zip": ZIP},
        {"jdoe"},
    ),
    "d2l folders": (
        "d2l",
        {
            "index.html": b"",
            **under("39786-640693 - Jane Doe - Oct 10, 2025 1022 AM/"),
            "39787-640693 - Ann Lee - Oct 9, 2025 122 PM/hw7.zip": ZIP,
        },
        {"Jane Doe_39786", "Ann Lee_39787"},
    ),
    "d2l files": (
        "d2l",
        {"39786-640693 - Jane Doe-Oct 10, 2025 1022 AM - hw7.zip": ZIP},
        {"Jane Doe_39786"},
    ),
}


@pytest.mark.parametrize("as_zip", [False, True], ids=["on disk", "in a zip"])
@pytest.mark.parametrize("name", EXPORTS)
def test_each_layout(tmp_path: Path, name: str, as_zip: bool) -> None:
    layout, files, students = EXPORTS[name]
    root = zipped(files, tmp_path / "all.zip") if as_zip else write(tmp_path / "all", files)
    submissions = find_submissions(root)
    assert submissions.layout == layout
    assert all_right(submissions) == students
    assert not submissions.not_taken
    assert not submissions.doubt


@pytest.mark.parametrize("layout", ["gradescope", "moodle", "canvas", "blackboard", "d2l"])
def test_an_export_in_a_folder_of_its_own_is_named(tmp_path: Path, layout: str) -> None:
    _, files, students = next(row for row in EXPORTS.values() if row[0] == layout)
    root = write(tmp_path, under("export/", files))
    assert all_right(find_submissions(root, layout=layout)) == students
    unnamed = find_submissions(root)
    assert [each.student for each in unnamed.found] == ["export"]
    assert f"--layout {layout}" in unnamed.doubt


def test_one_submission_itself(tmp_path: Path) -> None:
    write(tmp_path / "ann", RIGHT)
    zipped(RIGHT, tmp_path / "bob.zip")
    for name, student in (("ann", "ann"), ("bob.zip", "bob")):
        submissions = find_submissions(tmp_path / name)
        assert submissions.layout == "one"
        assert all_right(submissions) == {student}


def test_no_submissions_at_all(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"no zip")
    (tmp_path / "empty").mkdir()
    for name in ("missing", "a file", "empty"):
        with pytest.raises(HW7Error, match=name):
            find_submissions(tmp_path / name)
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(HW7Error, match=r"notes\.txt: it is neither a folder nor a zip"):
        find_submissions(tmp_path / "empty")
    with pytest.raises(HW7Error, match="no layout 'schoology'; there are folders, nbgrader"):
        find_submissions(tmp_path, layout="schoology")


def test_the_command_and_its_page_know_every_layout() -> None:
    assert [each.value for each in LayoutName] == list(layouts.LAYOUTS)
    page = (PROJECT / "docs" / "grading.md").read_text(encoding="utf-8")
    assert [name for name in layouts.LAYOUTS if f"| `{name}` | " not in page] == []


# ---- nothing disappears -------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_most_entries(tmp_path: Path) -> None:
    """One zip named as by Moodle among nine others, and nine so named with one that is not."""
    folders = {f"student{n}/{name}": data for n in range(9) for name, data in RIGHT.items()}
    files = write(tmp_path / "folders", {**folders, "Ann_1_assignsubmission_file_hw7.zip": ZIP})
    assert len(all_right(find_submissions(files))) == 10
    moodle = {f"S{n}_{n}_assignsubmission_file_hw7.zip": ZIP for n in range(9)}
    submissions = find_submissions(write(tmp_path / "moodle", {**moodle, **under("by mail/"), "readme.txt": b""}))
    assert len(all_right(submissions)) == 9
    assert set(submissions.not_taken) == {"by mail", "readme.txt"}
    assert "none that moodle gives" in submissions.not_taken["by mail"]


def test_what_is_not_taken_from_nbgraders_tree_is_said(tmp_path: Path) -> None:
    write(
        tmp_path / "submitted",
        {
            **under("ann/hw7/"),
            **under("alan/homework7/"),
            **under("bob/hw6/"),
            "cy/hw7": b"a file",
            "notes.txt": b"",
            ".eve/hw7/solution/losses.py": b"",
        },
    )
    (tmp_path / "submitted" / "dan").mkdir()
    submissions = find_submissions(tmp_path / "submitted")
    assert {each.student for each in submissions.found} == {"ann", ".eve"}
    assert set(submissions.not_taken) == {"alan", "bob", "cy", "dan", "notes.txt"}
    assert "no folder hw7, but homework7" in submissions.not_taken["alan"]
    assert "but nothing" in submissions.not_taken["dan"]
    with pytest.raises(HW7Error, match="no student has a folder hw8; there are homework7, hw6, hw7"):
        find_submissions(tmp_path / "submitted", "hw8")
    assert [each.student for each in find_submissions(tmp_path, "homework7").found] == ["alan"]


def test_the_folder_may_be_named_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "submitted", under("ann/hw7/"))
    monkeypatch.chdir(tmp_path / "submitted")
    assert all_right(find_submissions(".")) == {"ann"}


def test_what_is_not_taken_from_gradescope_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"submission_metadata.yml": METADATA, **under("submission_101/"), **under("late by mail/")})
    submissions = find_submissions(tmp_path, layout="gradescope")
    assert all_right(submissions) == {"B07901001"}
    assert set(submissions.not_taken) == {"late by mail", "submission_102 (bob@example.edu, Cem Çelik)"}


def test_a_table_of_gradescope_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"submission_metadata.yml": b"\xff{[", **under("submission_101/")})
    submissions = find_submissions(tmp_path)
    assert all_right(submissions) == {"submission_101"}
    assert "cannot be read" in submissions.not_taken["submission_metadata.yml"]


def test_files_that_are_no_submission(tmp_path: Path) -> None:
    """A table beside the submissions is listed; what systems leave behind is not worth a word."""
    write(tmp_path, {**under("ann/"), "marks.csv": b"", ".DS_Store": b"", "__MACOSX/ann/._x": b"", "bob.tar.gz": b""})
    submissions = find_submissions(tmp_path)
    assert set(submissions.not_taken) == {"marks.csv"}
    said(taken(submissions)["bob.tar"], "neither a folder nor a zip: hand in a zip")


def test_the_teachers_own_files_are_no_submissions(tmp_path: Path) -> None:
    write(tmp_path, {**under("ann/"), "roster.csv": b"id,name\nann,Ann\n", "graded/grades.csv": b""})
    submissions = find_submissions(tmp_path, roster=tmp_path / "roster.csv", without=[tmp_path / "graded"])
    assert all_right(submissions) == {"ann"}
    assert not submissions.not_taken


def test_links_and_other_things_in_a_students_place(tmp_path: Path) -> None:
    write(tmp_path, under("ann/"))
    (tmp_path / "bob").symlink_to("ann")
    submissions = taken(find_submissions(tmp_path))
    assert_right(submissions["ann"])
    said(submissions["bob"], "is a link, which is not followed")


def test_students_that_are_there_twice(tmp_path: Path) -> None:
    write(tmp_path, {**under("ann/"), "ann.zip": ZIP, **under("bob/")})
    submissions = taken(find_submissions(tmp_path))
    assert_right(submissions["bob"])
    assert submissions["ann"].files == {}
    said(submissions["ann"], "2 submissions of this student (ann, ann.zip)")


NAMES = st.one_of(
    st.sampled_from(["ann", "ann.zip", ".bob", "cy ", "x  y", "notes.txt", "hw7", "index.html", "a.tar"]),
    st.builds("S{0}_{0}_assignsubmission_file_hw7.zip".format, st.integers(1, 4)),
    st.builds("lee_{0}_{1}_hw7.zip".format, st.integers(1, 3), st.integers(1, 3)),
    st.builds("HW7_s{0}_attempt_2020-05-0{1}-12-00-00_hw7.zip".format, st.integers(1, 3), st.integers(1, 3)),
    st.builds("{0}-9 - Al - May {1}, 2020 102 PM - hw7.zip".format, st.integers(1, 3), st.integers(1, 3)),
    st.builds("submission_{}".format, st.integers(1, 3)),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sets(NAMES, min_size=1, max_size=8), st.sampled_from([None, "folders", "moodle", "canvas", "blackboard", "d2l"])
)
def test_every_entry_is_somebodys_or_is_listed(names: set[str], layout: str | None) -> None:
    """Whatever lies side by side: a student, a file of one, an earlier attempt that a remark tells of, or not taken."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            if "." in name.strip("."):
                (root / name).write_bytes(b"")
            else:
                (root / name / "solution").mkdir(parents=True)
        try:
            submissions = find_submissions(root, layout=layout)
        except HW7Error:
            reject()  # nothing there is named as in this layout
        accounted = set(submissions.not_taken)
        for each in submissions.found:
            here = {name for name, _ in each.members} or {each.path.name}
            accounted |= here
            if each.problem or each.remarks:  # "there are 2 submissions of this student", "of 2 attempts the last"
                accounted |= {name for name in names if _of(submissions.layout, name) == each.student}
        beside = {"index.html"} if submissions.layout == "d2l" else set()
        assert names <= accounted | beside


def _of(layout: str, name: str) -> str | None:
    if layout not in ("canvas", "blackboard", "d2l", "moodle"):
        return Path(name).stem
    parsed = platforms.parse_name(layout, name, "file")
    return parsed and parsed.student.removeprefix("HW7_")


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("closed", ["bob", "solution", "submitted/bob"])
def test_a_folder_that_cannot_be_opened_is_its_student_s_problem(closed: str, alone: bool) -> None:
    folder, name = PurePosixPath(closed).parent, PurePosixPath(closed).name
    with as_nobody() as root:
        if not alone:
            write(root / folder, under("ann/hw7/"))
        (root / closed).mkdir(parents=True)
        (root / closed).chmod(0)
        found = taken(find_submissions(root))
    assert found.pop(name).problem == "It cannot be read (Permission denied)."
    assert set(found) == (set() if alone else {"ann"})
    for submission in found.values():
        assert_right(submission)


# ---- no student decides --------------------------------------------------------------------------------------------


def test_one_submission_that_looks_like_an_export(tmp_path: Path) -> None:
    """Whose it is does not stand in it."""
    stolen = METADATA.replace(b"ann@example.edu", b"victim@example.edu")
    trap = {"submission_metadata.yml": stolen, **under("submission_101/")}
    write(tmp_path / "a", under("eve/", {**RIGHT, **trap}))
    write(tmp_path / "b", under("eve/", trap))
    write(tmp_path / "c", under("eve/submitted/victim/hw7/"))
    write(tmp_path / "d", {"eve/Victim_1_assignsubmission_file_hw7.zip": ZIP})
    write(tmp_path / "e", {"eve.zip": packed({**RIGHT, **trap})})
    for folder in "abcde":
        assert [each.student for each in find_submissions(tmp_path / folder).found] == ["eve"], folder
    assert all_right(find_submissions(tmp_path / "a" / "eve")) == {"eve"}  # named by the teacher: one submission
    assert "--layout gradescope" in find_submissions(tmp_path / "b").doubt


def test_a_class_in_a_folder_of_its_own_is_pointed_out(tmp_path: Path) -> None:
    root = write(tmp_path, {**under("class/ann/"), **under("class/bob/")})
    assert f"name that folder, {root / 'class'}" in find_submissions(root).doubt


@pytest.mark.parametrize("beside", ["ann", "ann.zip"])
def test_a_student_called_solution(tmp_path: Path, beside: str) -> None:
    write(tmp_path, under("solution/"))
    write(tmp_path, {beside: ZIP} if beside.endswith(".zip") else under("ann/"))
    assert all_right(find_submissions(tmp_path)) == {"ann", "solution"}


@pytest.mark.parametrize("beside", ["old", "old.zip"])
def test_one_submission_beside_an_older_one(tmp_path: Path, beside: str) -> None:
    write(tmp_path / "ann", {**RIGHT, **({beside: ZIP} if beside.endswith(".zip") else under("old/"))})
    submissions = find_submissions(tmp_path / "ann")
    assert [each.student for each in submissions.found] == ["ann"]
    assert submissions.doubt == f"it was taken for one submission: if {beside} are students', say --layout folders"


def test_a_student_called_submitted(tmp_path: Path) -> None:
    write(tmp_path, {**under("submitted/"), **under("ann/")})
    with pytest.raises(HW7Error, match="--layout nbgrader"):
        find_submissions(tmp_path)
    assert all_right(find_submissions(tmp_path, layout="folders")) == {"ann", "submitted"}


def test_submitters_are_read_without_running_anything(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    tag = f"!!python/object/apply:os.mkdir ['{sprung}']"
    table = (
        f"submission_1:\n  :submitters:\n  - :name: {tag}\nsubmission_2: [[]]\nsubmission_3:\n  :submitters: {tag}\n"
    )
    assert layouts._submitters(table.encode()) == {}
    assert not sprung.exists()


# ---- attempts and marks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("earlier", "last", "words"),
    [
        ("doejane_1_10_hw7.zip", "doejane_LATE_1_11_hw7-1.zip", ("Of 2 attempts the last", "hw7-1.zip", "late")),
        ("doejane_1_99_hw7-2.zip", "doejane_1_11_hw7-10.zip", ("Of 2 attempts the last", "attempt 11")),
        ("doejane_1_10_old.zip", "doejane_1_11_new.zip", ("Of 2 attempts the last", "new.zip")),
        (
            "HW7_jdoe_attempt_2020-05-01-12-30-00_hw7.zip",
            "HW7_jdoe_attempt_2020-05-02-01-00-00_a.zip",
            ("Of 2 attempts the last", "2020-05-02-01-00-00"),
        ),
        (
            "1-9 - Jane Doe - Oct 9, 2020 115 PM - hw7.zip",
            "1-9 - Jane Doe - Oct 10, 2020 1210 AM - hw7.zip",
            ("Of 2 attempts the last", "Oct 10, 2020 1210 AM"),
        ),
    ],
)
def test_the_last_attempt_counts(tmp_path: Path, earlier: str, last: str, words: tuple[str, ...]) -> None:
    write(tmp_path, {earlier: packed({"solution/losses.py": b"old"}), last: ZIP})
    (submission,) = taken(find_submissions(tmp_path)).values()
    assert_right(submission)
    said(submission, *words)


def test_an_attempt_is_taken_whole(tmp_path: Path) -> None:
    """Blackboard's second attempt without weights has none: those of the first belong to other code."""
    head = "HW7_jdoe_attempt_2020-05-0"
    write(
        tmp_path,
        {
            f"{head}1-12-00-00_code.zip": packed({"solution/losses.py": b"old"}),
            f"{head}1-12-00-00_weights.safetensors": b"old",
            f"{head}2-12-00-00_code.zip": packed(SOURCE),
            f"{head}2-12-00-00_hw7.ipynb": b"{}",
        },
    )
    (submission,) = taken(find_submissions(tmp_path)).values()
    assert (submission.files, submission.weights, submission.notebook) == (SOURCE, None, b"{}")


def test_canvas_numbers_each_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "doe_1_10_code.zip": packed({"solution/losses.py": b"old"}),
            "doe_1_11_weights.safetensors": b"weights",
            "doe_1_12_code-1.zip": packed(SOURCE),
            "doe_1_13_hw7.ipynb": b"{}",
        },
    )
    (submission,) = taken(find_submissions(tmp_path)).values()
    assert_right(submission)


def test_only_a_text_was_handed_in(tmp_path: Path) -> None:
    write(tmp_path / "m", {"Ann_1_assignsubmission_onlinetext_/onlinetext.html": b"sorry"})
    write(tmp_path / "b", {"HW7_jdoe_attempt_2020-05-01-12-30-00.txt": b"sorry"})
    for folder in "mb":
        (submission,) = taken(find_submissions(tmp_path / folder)).values()
        said(submission, "Only a text")


# ---- names, byte for byte -------------------------------------------------------------------------

STRANGE = ["jose\u0301", "jos\u00e9", "ada ", " ada", "x  y", "x y", ".dot", "Ab", "ab", "'quoted", "=cmd()"]


@pytest.mark.parametrize("inside", ["", "hw7/"])
def test_a_folder_s_name_is_the_student(tmp_path: Path, inside: str) -> None:
    root = tmp_path / ("submitted" if inside else "class")
    for name in STRANGE:
        write(root, under(f"{name}/{inside}"))
    assert all_right(find_submissions(root)) == set(STRANGE)


# ---- what stands on the student's page ----------------------------------------------------------------------------


def test_what_was_handed_out_is_passed_over(tmp_path: Path) -> None:
    given = {"tests/notebook.json": b"", "tests/a/b.safetensors": b"", "bugs/one.py": b"", "timestamp.txt": b""}
    write(tmp_path / "submitted", under("ann/hw7/", {**RIGHT, **given, "data/x.png": b"", "essay.pdf": b""}))
    (submission,) = taken(find_submissions(tmp_path / "submitted")).values()
    assert submission.remarks == ("No part of a submission, ignored: essay.pdf, data/ (1 file).",)


def test_a_zip_of_the_whole_release_has_no_remark_on_what_was_given(tmp_path: Path) -> None:
    tree = {"README.md": b"", "constraints.txt": b"", "docs/students.md": b"", "hw7/cli.py": b""}
    write(tmp_path, {"ann.zip": packed({**under("release/assignments/hw7/"), **under("release/", tree)})})
    (submission,) = taken(find_submissions(tmp_path)).values()
    assert_right(submission)
    assert not any("ignored" in remark for remark in submission.remarks)
