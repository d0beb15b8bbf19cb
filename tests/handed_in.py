"""Right submissions of small files, in folders and in zips."""

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from autograder.intake.layouts import FoundSubmissions
from autograder.intake.submission import Submission, take_in

NAMES = ("__init__", "losses", "models", "pruning", "quantization")
SOURCE = {f"solution/{name}.py": f'"""{name}"""\n'.encode() for name in NAMES}
RIGHT = {**SOURCE, "weights.safetensors": b"weights", "hw7.ipynb": b"{}"}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def packed(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


ZIP = packed(RIGHT)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """An empty folder, and this process as somebody whom files of mode 0 keep out, as they do not root."""
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
    except OSError as error:
        pytest.skip(f"cannot become somebody else: {error}")
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            yield Path(folder)
    finally:
        os.seteuid(user)


def under(prefix: str, files: Mapping[str, bytes] = RIGHT) -> dict[str, bytes]:
    return {prefix + name: data for name, data in files.items()}


def assert_right(submission: Submission) -> None:
    assert submission.problem == ""
    assert submission.files == SOURCE
    assert (submission.weights, submission.notebook) == (b"weights", b"{}")


def said(submission: Submission, *words: str) -> None:
    """Each of these stands in the problem or in a remark."""
    text = "\n".join([submission.problem, *submission.remarks])
    for word in words:
        assert word in text, text


def taken(submissions: FoundSubmissions) -> dict[str, Submission]:
    return {each.student: take_in(each) for each in submissions.found}


def all_right(submissions: FoundSubmissions) -> set[str]:
    for submission in taken(submissions).values():
        assert_right(submission)
    return {each.student for each in submissions.found}
