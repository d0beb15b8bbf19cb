"""Notebooks as students leave them, beside the released one: what is found, what is fixed, that no text is lost."""

import json
import random
from copy import deepcopy
from typing import Any

import nbformat
import pytest
from notebooks import ANSWER, RELEASED, Cell, answered, at, graded, released, words

from hw7 import HW7Error
from hw7.handin.notebook_repair import MAX_OUTPUT, grade_id, repair_notebook, text, to_bytes
from hw7.solution import MOST_READ, NOTEBOOK


def repair(notebook: Cell) -> tuple[Cell, list[str]]:
    """Repairs it, and sees that what comes back is right in all that must hold for any notebook."""
    result = repair_notebook(to_bytes(notebook), RELEASED)
    assert result.notebook is not None
    repaired = result.notebook
    nbformat.validate(nbformat.from_dict(repaired))
    names = [grade_id(cell) for cell in repaired["cells"] if grade_id(cell)]
    assert names == [grade_id(cell) for cell in released()["cells"] if grade_id(cell)]
    for name, cell in graded(released()).items():
        assert graded(repaired)[name]["metadata"]["nbgrader"] == cell["metadata"]["nbgrader"]
        assert graded(repaired)[name]["cell_type"] == cell["cell_type"]
        if not cell["metadata"]["nbgrader"]["solution"]:
            assert graded(repaired)[name]["source"] == cell["source"]
    there = "\n".join(cell["source"] for cell in repaired["cells"])
    for cell in notebook["cells"]:
        assert text(cell) == "YOUR ANSWER HERE" or text(cell) in there
    again = repair_notebook(to_bytes(repaired), RELEASED)
    assert again.notebook == repaired
    assert (again.fixed, again.to_fix) == ((), ())
    return repaired, [*result.fixed, *result.to_fix]


def test_a_good_notebook_stays_as_it_is() -> None:
    repaired, found = repair(answered())
    assert found == []
    assert to_bytes(repaired) == to_bytes(answered())
    assert repair_notebook(RELEASED, RELEASED).unanswered == ("question-a", "question-b", "question-c")
    assert repair_notebook(to_bytes(answered()), RELEASED).unanswered == ()


def test_deleted_cells_come_back_in_their_places() -> None:
    notebook = answered()
    for name in ("setup", "task-1-2", "question-c"):
        del notebook["cells"][at(notebook, name)]
    repaired, found = repair(notebook)
    assert found == [
        "setup was deleted: it is back.",
        "task-1-2 was deleted: it is back.",
        "question-c was deleted: it is back, without an answer.",
    ]
    assert at(repaired, "setup") == at(repaired, "task-1-1") - 1
    assert graded(repaired)["question-a"]["source"] == f"question-a: {ANSWER}"


def test_a_notebook_without_any_cell_becomes_the_released_one() -> None:
    repaired, found = repair(released() | {"cells": []})
    assert len(found) == len(graded(repaired)) == 7


@pytest.mark.parametrize("name", ["task-1-2", "question-a"])
def test_an_untouched_copy_is_left_out(name: str) -> None:
    notebook = answered()
    notebook["cells"].append(deepcopy(graded(released())[name]))
    repaired, found = repair(notebook)
    assert found == [f"{name} was there twice: the copy was left out."]
    assert len(repaired["cells"]) == len(answered()["cells"])


def test_an_answer_counts_also_where_an_untouched_copy_stands_before_it() -> None:
    notebook = answered()
    notebook["cells"].insert(1, deepcopy(graded(released())["question-b"]))
    repaired, _ = repair(notebook)
    assert graded(repaired)["question-b"]["source"] == f"question-b: {ANSWER}"


def test_a_second_answer_is_kept_as_an_ordinary_cell() -> None:
    notebook = answered()
    second = deepcopy(graded(notebook)["question-a"]) | {"source": "Or rather: less."}
    notebook["cells"].insert(at(notebook, "question-a") + 1, second)
    repaired, found = repair(notebook)
    assert found == [
        "question-a was there twice, with other text: the first answer is graded, the other is an ordinary cell."
    ]
    after = repaired["cells"][at(repaired, "question-a") + 1]
    assert after["source"] == "Or rather: less."
    assert "nbgrader" not in after["metadata"]


def test_an_edited_locked_cell_is_as_released_and_the_edit_does_not_run() -> None:
    notebook = answered()
    notebook["cells"][at(notebook, "task-1-1")]["source"] = "5.0"
    repaired, found = repair(notebook)
    assert found == ["task-1-1 is locked and was edited: it is as released, your version stands below it."]
    fixed, edit = repaired["cells"][at(repaired, "task-1-1") :][:2]
    assert fixed["outputs"] == []
    assert (edit["cell_type"], edit["source"]) == ("raw", "5.0")


def test_line_ends_are_no_edit() -> None:
    notebook = answered()
    notebook["cells"][at(notebook, "setup")]["source"] = "from hw7.notebook import Lab  \r\nlab = Lab()\r\n"
    result = repair_notebook(to_bytes(notebook), RELEASED)
    assert (result.fixed, result.to_fix) == ((), ())
    assert result.notebook is not None
    assert graded(result.notebook)["setup"]["source"] == graded(released())["setup"]["source"]


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell["metadata"].clear(),
        lambda cell: cell["metadata"]["nbgrader"].update(grade_id="q1"),
        lambda cell: cell["metadata"].update(nbgrader="yes"),
        lambda cell: cell.update(metadata=None),
    ],
)
@pytest.mark.parametrize("name", ["question-b", "task-1-3"])
def test_a_cell_that_lost_its_name_is_found_again(name: str, change: Any) -> None:
    notebook = answered()
    change(notebook["cells"][at(notebook, name)])
    repaired, found = repair(notebook)
    assert found == [f"{name} had lost its name, by which it is graded: it has it again."]
    assert graded(repaired)[name]["source"] == graded(answered())[name]["source"]


def test_a_locked_cell_is_also_known_by_its_text() -> None:
    notebook = answered()
    notebook["cells"][at(notebook, "setup")] |= {"id": "another", "metadata": {}}
    _, found = repair(notebook)
    assert found == ["setup had lost its name, by which it is graded: it has it again."]


@pytest.mark.parametrize("key", ["points", "locked", "solution", "grade"])
def test_data_for_grading_are_as_released(key: str) -> None:
    notebook = answered()
    notebook["cells"][at(notebook, "task-1-1")]["metadata"]["nbgrader"][key] = 100
    _, found = repair(notebook)
    assert found == ["task-1-1 had other data for grading: they are as released."]


def test_an_answer_that_was_made_code_is_words_again() -> None:
    notebook = answered()
    notebook["cells"][at(notebook, "question-a")] |= {"cell_type": "code", "outputs": [], "execution_count": None}
    repaired, found = repair(notebook)
    assert found == ["question-a had become a code cell: it is markdown again."]
    assert graded(repaired)["question-a"]["source"] == f"question-a: {ANSWER}"


def test_moved_cells_are_put_back_and_the_others_stay() -> None:
    notebook = answered()
    cell = notebook["cells"].pop(at(notebook, "task-1-1"))
    notebook["cells"].append(cell)
    repaired, found = repair(notebook)
    assert found == ["task-1-1 had been moved: it is in its place again."]
    assert to_bytes(repaired) == to_bytes(answered())


def test_any_order_is_put_right() -> None:
    order = random.Random(7)
    for _ in range(30):
        notebook = answered()
        order.shuffle(notebook["cells"])
        repair(notebook)


def test_cells_of_another_notebook_are_ordinary() -> None:
    notebook = answered()
    notebook["cells"].append(words("old", "homework-6", grade=True, solution=True, points=100))
    repaired, found = repair(notebook)
    assert found == ["homework-6 is no cell of this notebook: kept as an ordinary cell."]
    assert repaired["cells"][-1]["metadata"] == {}


def test_too_much_output_is_left_out_and_damaged_output_too() -> None:
    notebook = answered()
    flood = {"output_type": "stream", "name": "stdout", "text": "x" * MAX_OUTPUT}
    notebook["cells"][at(notebook, "setup")]["outputs"] = [flood]
    notebook["cells"][at(notebook, "task-1-1")]["outputs"] = [{"output_type": "display_data"}, 7, {"text": "?"}]
    repaired, found = repair(notebook)
    assert found == ["setup has 2,000,057 bytes of output: they were left out."]
    assert "left out" in graded(repaired)["setup"]["outputs"][0]["text"]
    assert graded(repaired)["task-1-1"]["outputs"] == []


def test_what_is_no_cell_is_left_out() -> None:
    notebook = answered()
    notebook["cells"] += [None, {"cell_type": "code"}, {"source": 5}, {"source": "kept", "cell_type": "what"}]
    result = repair_notebook(to_bytes(notebook), RELEASED)
    assert result.fixed == tuple(f"Cell {number} is no cell: it was left out." for number in (13, 14, 15))
    assert result.to_fix == ()
    assert result.notebook is not None
    assert result.notebook["cells"][-1]["source"] == "kept"
    nbformat.validate(nbformat.from_dict(result.notebook))


def test_a_merge_conflict_in_outputs_is_resolved() -> None:
    lines = to_bytes(answered()).decode().split("\n")
    place = next(i for i, line in enumerate(lines) if '"execution_count": 3' in line)
    other = lines[place].replace("3", "17")
    lines[place : place + 1] = ["<<<<<<< HEAD", lines[place], "=======", other, ">>>>>>> laptop"]
    result = repair_notebook("\n".join(lines).encode(), RELEASED)
    assert result.fixed == (f"The notebook had a merge conflict in line {place + 1}; both sides had the same text.",)
    assert result.to_fix == ()
    assert result.notebook is not None
    assert to_bytes(result.notebook) == to_bytes(answered())


def test_a_merge_conflict_in_an_answer_is_for_its_student() -> None:
    lines = to_bytes(answered()).decode().split("\n")
    place = next(i for i, line in enumerate(lines) if ANSWER in line)
    lines[place : place + 1] = [
        "<<<<<<< HEAD",
        lines[place],
        "=======",
        lines[place].replace("more", "less"),
        ">>>>>>> x",
    ]
    result = repair_notebook("\n".join(lines).encode(), RELEASED)
    assert result.notebook is None
    (fault,) = result.to_fix
    assert result.fixed == ()
    assert f"merge conflict in line {place + 1} whose sides differ" in fault


def test_a_merge_conflict_inside_a_cell_is_named() -> None:
    notebook = answered()
    conflict = "<<<<<<< HEAD\nmore\n=======\nless\n>>>>>>> laptop"
    notebook["cells"][at(notebook, "question-a")]["source"] = conflict
    result = repair_notebook(to_bytes(notebook), RELEASED)
    (fault,) = result.to_fix
    assert fault.startswith("question-a has a merge conflict in its text")
    assert result.fixed == ()
    heading = answered()
    heading["cells"][at(heading, "question-a")]["source"] = "Answer\n=======\nmore"  # underlined, as Markdown has it
    assert repair_notebook(to_bytes(heading), RELEASED).to_fix == ()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"nbformat": 4' + b"0" * 5000 + b', "cells": []}', "is no notebook of format 4"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[]", "is no notebook of format 4"),
        (b'{"nbformat": 3, "worksheets": []}', "is no notebook of format 4"),
        (b'{"nbformat": 4, "cells": {}}', "is no notebook of format 4"),
        (b" " * (MOST_READ[NOTEBOOK] + 1), "at most 32,000,000 are read"),
    ],
)  # fmt: skip
def test_what_is_no_notebook_is_told(data: bytes, says: str) -> None:
    result = repair_notebook(data, RELEASED)
    assert result.notebook is None
    (fault,) = result.to_fix
    assert says in fault
    assert result.fixed == ()


def test_halves_of_characters_and_nan_become_what_a_file_can_hold() -> None:
    notebook = answered()
    notebook["cells"][0]["source"] = "@@"
    data = to_bytes(notebook).replace(b"@@", b"\\ud83d!").replace(b'"metadata": {}', b'"metadata": {"x": NaN}', 1)
    result = repair_notebook(data, RELEASED)
    assert result.notebook is not None
    assert result.notebook["cells"][0]["source"] == "?!"
    json.loads(to_bytes(result.notebook), parse_constant=pytest.fail)


def test_an_older_format_gets_what_the_newer_needs() -> None:
    notebook = answered() | {"nbformat_minor": 4}
    for cell in notebook["cells"]:
        del cell["id"]
    repaired, found = repair(notebook)
    assert found == []
    assert repaired["nbformat_minor"] == 5


def test_a_released_notebook_that_is_none_is_an_error() -> None:
    with pytest.raises(HW7Error, match="the released notebook cannot be used: The notebook is no JSON"):
        repair_notebook(RELEASED, b"?")


def test_anything_becomes_a_valid_notebook_or_a_reason() -> None:
    """Random damage to random places of the tree."""
    chance = random.Random(0)
    for _ in range(300):
        notebook = answered()
        for _ in range(chance.randrange(1, 6)):
            damage(notebook, chance)
        result = repair_notebook(json.dumps(notebook).encode(), RELEASED)
        if result.notebook is None:
            assert result.to_fix
        else:
            nbformat.validate(nbformat.from_dict(result.notebook))


def damage(value: Any, chance: random.Random) -> None:
    while isinstance(value, dict | list) and value:
        key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        if chance.random() < 0.3 or not isinstance(value[key], dict | list):
            if chance.random() < 0.3:
                del value[key]
            else:
                value[key] = chance.choice([None, 7, "x", [], {}, [None], {"a": 1}, True])
            return
        value = value[key]
