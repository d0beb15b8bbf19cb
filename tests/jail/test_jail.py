"""The jail answers: calls and answers in order, whatever a submission is, in the best tier that works here."""

from pathlib import Path

import pytest
import torch
from jailed import ECHO, SECONDS, inside, linux, question, said, submission, works

from autograder.jail import Jail, best_tier, confine, launch
from autograder.jail.jail import FilesRefused
from hw7 import HW7Error
from hw7.checks.cases import Call, Status

pytestmark = linux


def test_a_start_that_takes_too_long_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "START_SECONDS", 0.0)
    monkeypatch.setattr(launch, "END_SECONDS", 0.0)  # nor is there any waiting for its end
    with Jail("D") as jail, pytest.raises(HW7Error, match=r"not ready after 0 s\. Is this machine very busy"):
        jail.child(submission(ECHO))


NO_CHILD_HOLDS = {
    "a file and a folder": "solution/losses.py/b.py",
    "a long path": f"solution/{'d' * 200}/{'e' * 200}.py",
    "a long name": f"solution/{'d' * 240}.py/../x.py",
    "no text": "solution/\udcff.py",
    "a zero": "solution/a\0.py",
}


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=name, marks=pytest.mark.slow) for name, path in NO_CHILD_HOLDS.items()]
)
def test_files_that_no_child_can_hold(jail: Jail, path: str) -> None:
    """They are refused, and the jail goes on. Intake takes none of them."""
    with pytest.raises(FilesRefused):
        jail.child(submission(ECHO) | {path: b""})
    works(jail)


# ---- asking ----------------------------------------------------------------------------------------------------


def test_an_answer_for_each_call_in_order(each_jail: Jail) -> None:
    with each_jail.child(submission("if student.item() == 2: raise ValueError('two')\n" + ECHO)) as child:
        answers = child.ask([question(i) for i in range(4)], SECONDS)
        assert [answer.status for answer in answers] == [0, 0, Status.VALUE_ERROR, 0]
        assert "two" in answers[2].note
        assert [said(answers[i]) for i in (0, 1, 3)] == [0, 1, 3]
        assert said(child.ask([question(9)], SECONDS)[0]) == 9
        assert child.alive
        assert child.stopped_by == ""
    assert not child.alive
    assert child.ask([question()], 1.0)[0].status is Status.UNANSWERED


def test_large_inputs_and_answers(jail: Jail) -> None:
    """Ten megabytes each way: more than any pipe holds."""
    images = torch.rand(50, 3, 128, 128)
    code = b"def kd_loss(student, teacher, labels):\n    return student + 1\n"
    with jail.child({"solution/__init__.py": b"", "solution/losses.py": code}) as child:
        call = Call("kd_value", {"student": images, "teacher": images[0], "labels": images[0]})
        for answer in child.ask([call, call], SECONDS):
            assert torch.equal(answer.tensors[0], images + 1)


def test_missing_files_and_broken_ones(jail: Jail) -> None:
    for files, status in (
        ({}, Status.ABSENT),
        ({"solution/__init__.py": b""}, Status.ABSENT),
        ({"solution/__init__.py": b"", "solution/losses.py": b"def kd_loss(:"}, Status.RAISED),
        ({"solution/__init__.py": b"", "solution/losses.py": b"import nothing_of_that_name"}, Status.RAISED),
        ({"solution/__init__.py": b"", "solution/losses.py": b"raise SystemExit"}, Status.RAISED),
        ({"solution/__init__.py": b"", "solution/losses.py": b"raise KeyboardInterrupt"}, Status.RAISED),
    ):
        with jail.child(files) as child:
            assert child.ask([question()], SECONDS)[0].status is status, files


def test_what_has_no_place_in_a_frame_is_left_out(jail: Jail) -> None:
    code = b"import torch\ndef kd_loss(*given):\n    return torch.zeros(2, dtype=torch.complex64)\n"
    with jail.child({"solution/__init__.py": b"", "solution/losses.py": code}) as child:
        (answer,) = child.ask([question()], SECONDS)
        assert (answer.status, answer.tensors) == (Status.RETURNED, ())
        assert "complex64" in answer.note
        assert child.alive


def test_the_same_random_numbers_every_time(jail: Jail) -> None:
    """Or the same submission would not always get the same grade. The order of sets is part of it."""
    body = "import numpy\nresult = [torch.rand(1).item(), random.random(), float(numpy.random.rand()), hash('text')]"
    first = inside(jail, body)
    assert inside(jail, body) == first
    jail.close()
    assert inside(jail, body) == first


# ---- tier D, and which tier -------------------------------------------------------------------------------------


def test_tier_d_has_limits_and_a_deadline() -> None:
    """Not secure, but a loop, a flood, a death and a greedy program end there, too."""
    with Jail("D") as jail:
        assert inside(jail, ECHO) == 0.0
        with jail.child(submission("while student.item(): pass\n" + ECHO)) as child:
            said(child.ask([question()], SECONDS)[0])
            assert child.ask([question(1)], 0.5)[0].status is Status.TIME
        with jail.child(submission("if os.fork() == 0: time.sleep(600)\nos._exit(0)")) as child:
            assert child.ask([question()], SECONDS)[0].status is Status.DIED  # although the pipe is still open
        with jail.child(submission("torch.zeros(2**40)")) as child:
            assert child.ask([question()], SECONDS)[0].status is Status.NO_MEMORY
        works(jail)


def test_best_tier() -> None:
    best, reasons = best_tier()
    assert list(reasons) == ["A", "B", "C", "D"]
    assert all(reasons.values())
    assert best == next(tier for tier, reason in reasons.items() if reason == "works")


@pytest.mark.slow
def test_the_self_test_finds_an_open_jail() -> None:
    """Tier D lets nearly all of it happen, and the self-test says so."""
    source = (Path(confine.__file__).parent / "escapes.py").read_bytes()
    with Jail("D") as jail, jail.child({"solution/__init__.py": source}) as child:
        (answer,) = child.ask([Call("import_module", {"module": ""})], SECONDS)
        assert answer.status is Status.RAISED
        assert "read /etc/passwd" in answer.note
        assert "open a socket" in answer.note
