"""What a submission's code finds in the jail is made of the paths and contents of its files, and all of these count."""

import os
import stat
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from handed_in import RIGHT, SOURCE, packed, write
from submissions import last_grades, reference_files, reference_weights

from autograder.intake.layouts import find_submissions
from autograder.intake.submission import Submission, take_in
from hw7.checks.public import Checks
from hw7.handin.pack import gather
from hw7.solution import source_size

SECRET = "0123456789abcdef" * 6  # 96 characters in which something could be hidden


def the_one(root: Path) -> Submission:
    (found,) = find_submissions(root).found
    return take_in(found)


def what_the_child_gets(submission: Submission) -> list[tuple[str, bytes]]:
    """All that is sent of the source, in this order."""
    assert not submission.problem
    return list(submission.files.items())


# ---- nothing but path and content reaches the child --------------------------------------------------------------


def zipped(change: Callable[[list[zipfile.ZipInfo]], None], comment: bytes = b"") -> bytes:
    """The submission as a zip whose entries were changed before they were written."""
    buffer, infos = BytesIO(), [zipfile.ZipInfo(name) for name in RIGHT]
    change(infos)
    with zipfile.ZipFile(buffer, "w") as file:
        file.comment = comment
        for info in infos:
            file.writestr(info, RIGHT[info.filename])
    return buffer.getvalue()


def every(**values: object) -> Callable[[list[zipfile.ZipInfo]], None]:
    def change(infos: list[zipfile.ZipInfo]) -> None:
        for info in infos:
            for name, value in values.items():
                setattr(info, name, value)

    return change


def with_more(**files: bytes) -> bytes:
    return packed({**RIGHT, **files})


ZIPS = {
    "another order": zipped(lambda infos: infos.reverse()),
    "other times": zipped(every(date_time=(2001, 2, 3, 4, 5, 6))),
    "other modes": zipped(every(external_attr=(stat.S_IFREG | 0o4711) << 16)),
    "attributes of Windows": zipped(every(external_attr=0x27, create_system=0)),
    "comments": zipped(every(comment=SECRET.encode()), SECRET.encode()),
    "extra fields": zipped(every(extra=b"\xfe\xca\x60\x00" + SECRET.encode())),
    "packed otherwise": zipped(every(compress_type=zipfile.ZIP_DEFLATED)),
    "empty folders": with_more(**{f"solution/{SECRET}/": b"", f"solution/{SECRET}/{SECRET}/": b""}),
    "other files": with_more(**{"solution/table.npy": b"x", f"solution/{SECRET}.txt": b"", "solution/py": b"x"}),
    "caches": with_more(**{f"solution/__pycache__/{SECRET}.py": b"x", f"solution/{SECRET}.pyc": b"x"}),
    "hidden files": with_more(**{f"solution/.{SECRET}.py": b"x", f"solution/.{SECRET}/a.py": b"x"}),
    "another notebook": with_more(**{"hw7.ipynb": SECRET.encode()}),
    "files beside the source": with_more(**{"tests/a.py": b"x", f"{SECRET}.py": b"x", f"{SECRET}/a.py": b"x"}),
    "a module in another case": packed({name.replace("models.py", "MODELS.Py"): data for name, data in RIGHT.items()}),
    "ways round": packed({name.replace("/", "/.//"): data for name, data in RIGHT.items()}),
}


@pytest.mark.parametrize("name", ZIPS)
def test_of_a_zip_only_paths_and_contents_reach_the_child(tmp_path: Path, name: str) -> None:
    write(tmp_path / "usual", {"ann.zip": packed(RIGHT)})
    write(tmp_path / "other", {"ann.zip": ZIPS[name]})
    usual, other = the_one(tmp_path / "usual"), the_one(tmp_path / "other")
    assert what_the_child_gets(other) == what_the_child_gets(usual) == sorted(SOURCE.items())
    assert other.weights == usual.weights


def test_of_a_folder_only_paths_and_contents_reach_the_child(tmp_path: Path) -> None:
    write(tmp_path / "class" / "ann", RIGHT)
    usual = the_one(tmp_path / "class")
    solution = tmp_path / "class" / "ann" / "solution"
    for path in solution.rglob("*.py"):
        path.chmod(0o711)
        os.utime(path, (1, 1))
    (solution / SECRET / SECRET).mkdir(parents=True)
    (solution / f"{SECRET}.py").symlink_to(solution / "models.py")
    (solution / "linked").symlink_to(solution, target_is_directory=True)
    (solution / f"folder-{SECRET}.py").mkdir()
    assert what_the_child_gets(the_one(tmp_path / "class")) == what_the_child_gets(usual) == sorted(SOURCE.items())


# ---- and all of it counts ----------------------------------------------------------------------------------------


def test_what_is_counted() -> None:
    assert source_size({}) == 0
    assert source_size({"solution/models.py": 100}) == 18 + 100
    assert source_size({"solution/models.py": 100, "solution/a/b.py": 0}) == 118 + 15  # with the folder's name
    assert source_size({"solution/é.py": 0}) == 9 + 2 + 3  # bytes, not characters
    assert source_size({"solution/e\u0301.py": 0}) == 9 + 3 + 3  # another name, though it looks the same


def test_the_student_the_packed_zip_and_the_grader_count_the_same(tmp_path: Path) -> None:
    """Also beside files that are not handed in, or not read."""
    folder = write(
        tmp_path / "class" / "ann",
        {**reference_files(), f"solution/{SECRET}/a.py": b"#" * 100_000, "weights.safetensors": reference_weights()},
    )
    wanted = source_size({name: len(data) for name, data in reference_files().items()}) + 9 + 96 + 5 + 100_000
    write(folder, {"solution/__pycache__/b.py": b"#" * 50, "solution/.cache/c.py": b"#" * 50, "solution/d.txt": b"#"})
    (folder / "solution" / "folder.py").mkdir()
    (folder / "solution" / "link.py").symlink_to(folder / "solution" / "models.py")

    at_home = Checks.of(folder).part("5.1", "source").outcome
    (task,) = [task for task in last_grades(the_one(tmp_path / "class")) if task.task == "5.1"]
    (graded,) = [part.outcome for part in task.parts if part.part == "source"]
    assert at_home == graded
    assert graded.got == f"{wanted:,} bytes"
    assert "The names of its files count, too." in graded.message
    assert any(f"has {wanted:,} bytes, names included" in line for line in gather(folder).to_fix)
