"""Any notebook: whatever JSON is handed in as hw7.ipynb, its written answers are listed and it is repaired, or not."""

import json
import os
import subprocess
import sys
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notebooks import RELEASED, answered, words

from autograder.grading import written_answers
from hw7.handin.notebook_repair import repair_notebook, to_bytes
from hw7.support import bounded_json
from hw7.support.bounded_json import MAX_LEVELS, TooMuchError, read_bounded

EXAMPLES = int(os.environ.get("HW7_EXAMPLES", "60"))  # by hand: thousands
STEADY = settings(
    derandomize=True, database=None, deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck)
)

# ---- written answers ---------------------------------------------------------------------------------------------


def question(**marks: object) -> bytes:
    return json.dumps({"cells": [words("An answer.", "q", grade=True, solution=True, **marks)]}).encode()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("2", "q (2 points)"),
        ("0.5", "q (0.5 points)"),
        ("1", "q (1 point)"),
        ("1" + "0" * 400, "q (of unknown worth)"),
        ("-" + "9" * 18, "q (of unknown worth)"),
        ("NaN", "q (of unknown worth)"),
        ("-Infinity", "q (of unknown worth)"),
        ("1e999", "q (of unknown worth)"),
        ("true", "q (of unknown worth)"),
        ('"2"', "q (of unknown worth)"),
        ("[2]", "q (of unknown worth)"),
        ("null", "q (of unknown worth)"),
        ("1" + "0" * 5000, "q (of unknown worth)"),
    ],
)
def test_points_that_are_none(points: str, said: str) -> None:
    (line,) = written_answers(question(points=77).replace(b"77", points.encode()))
    assert said in line


def test_one_odd_cell_hides_no_answer() -> None:
    odd: list[Any] = [None, 7, "x", [], {"metadata": None}, {"metadata": {"nbgrader": []}}, {"metadata": 5}]
    odd += [
        words("", {"grade": 1}, grade=True, solution=True),
        {**words("", "s", grade=True, solution=True), "source": 5},
    ]
    cells = [*odd, words("An answer.", "q", grade=True, solution=True, points=2)]
    assert written_answers(json.dumps({"cells": cells}).encode()) == (
        "a cell without a name (0 points, left empty)",
        "s (0 points, left empty)",
        "q (2 points)",
        "4 cells of hw7.ipynb cannot be read: look at it by hand",
    )  # fmt: skip


# ---- bounded -----------------------------------------------------------------------------------------------------


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_json_is_read_up_to_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for digits in (20, 401, 5000):  # Python reads no more than 4,300
        text = '{"a": [1, -2.5, "x", true, null, NaN, 1e999, %s]}' % ("9" * digits)
        assert read_bounded(text) == {"a": [1, -2.5, "x", True, None, None, None, None]}
    assert json.dumps(read_bounded(nested(MAX_LEVELS))) == nested(MAX_LEVELS)
    with pytest.raises(TooMuchError, match="100 levels"):
        read_bounded(nested(MAX_LEVELS + 1))
    for text in (nested(100_000), "", "[1,]"):
        with pytest.raises(ValueError, match=r"."):
            read_bounded(text)
    monkeypatch.setattr(bounded_json, "MAX_VALUES", 10)
    assert len(read_bounded("[" + "0," * 8 + "0]")) == 9
    for text in ("[" + "0," * 10 + "0]", "[" + "[]," * 8 + "0]", "{}" * 11):
        with pytest.raises(TooMuchError, match="10 values"):
            read_bounded(text)


LARGE = {
    "lists": "b'[' + b'[],' * 10_000_000 + b'0]'",
    "dicts": "b'[' + b'{\"\":0},' * 4_500_000 + b'0]'",
    "names": "b'{' + b','.join(b'\"%x\":0' % n for n in range(2_500_000)) + b'}'",
    "as many as are read": "b'{\"cells\": [' + b'{},' * 490_000 + b'0]}'",
    "a wide text": "b'[\"\\xf0\\x9f\\x98\\x80' + b'a' * 30_000_000 + b'\"]'",
}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("name", ["lists", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE if n != "lists")])
def test_a_notebook_takes_little_memory(name: str) -> None:
    """Of 32 MB. Its bytes, its text (4 bytes a character where one of them is an emoji), that text again as a value."""
    code = (
        "from autograder.grading import written_answers\n"
        "def peak(): return int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
        f"data = {LARGE[name]}\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"  # the peak so far is forgotten
        "before = peak()\n"
        "assert 'by hand' in written_answers(data)[0]\n"
        "print((peak() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 350


# ---- whatever Hypothesis thinks of -------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["cells", "metadata", "nbgrader", "source", "id", "cell_type", "code", "markdown", "outputs", "grade_id", "points",
     "nbformat", "nbformat_minor", "attachments", "question-a", "task-1-1", "output_type", "stream", "text", "data",
     "execution_count", "kernelspec", "grade", "solution", "", "\ud800", "a\0b", "\u202e"]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, 4, 5, -1, 2**63, 10**18, -(10**30), 10**4000, float("nan"), float("inf"), -0.0, 1.5, 1e308]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def changed(value: Any, data: st.DataObject) -> Any:
    """The value with something else in one place of it, at any depth."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 7)):
        places = sorted(value) if isinstance(value, dict) else range(len(value))
        place = data.draw(st.sampled_from(places))
        match data.draw(st.sampled_from(["in", "in", "in", "in", "delete", "again"])):
            case "delete":
                del value[place]
            case "again" if isinstance(value, list):
                value.append(json.loads(json.dumps(value[place])))
            case _:
                value[place] = changed(value[place], data)
        return value
    return data.draw(VALUES)


@STEADY
@given(st.data())
def test_any_notebook(data: st.DataObject) -> None:
    notebook = answered()
    for _ in range(data.draw(st.integers(1, 6))):
        notebook = changed(notebook, data)
    text = json.dumps(notebook).encode()
    lines = written_answers(text)
    assert len(json.dumps(lines)) < 20_000
    repair = repair_notebook(text, RELEASED)
    assert repair.notebook is not None or repair.to_fix
    if repair.notebook is not None:
        nbformat.validate(nbformat.from_dict(repair.notebook))
        again = repair_notebook(to_bytes(repair.notebook), RELEASED)
        assert again.fixed == ()


@STEADY
@given(VALUES | st.dictionaries(st.just("cells"), VALUES), st.binary(max_size=3), st.integers(0, 2**16))
def test_any_json_and_what_is_none(value: Any, noise: bytes, place: int) -> None:
    text = json.dumps(value).encode()
    for each in (text, text[: place % (len(text) + 1)] + noise + text[place % (len(text) + 1) :]):
        assert all(isinstance(line, str) for line in written_answers(each))
        repair_notebook(each, RELEASED)
