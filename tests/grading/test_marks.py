"""Marks: what people decide stands beside the grade, in the journal, and can be undone; what changed between runs."""

import dataclasses
import random
from pathlib import Path

import made_up_grades
import pytest
from made_up_class import Class
from typer.testing import CliRunner

from autograder import cli
from autograder.cli.shared import mark_of
from autograder.grades import Grade
from autograder.journal import Journal, current_marks, journal_name, read_entries
from autograder.marks import Comment, Late, Override, Standing, changes, mark
from autograder.rubric import LatePolicy, load_rubric
from hw7 import HW7Error


@pytest.fixture
def made(a_class: Class) -> Class:
    a_class.run(jobs=2)
    return a_class


def call(*words: object) -> str:
    result = CliRunner().invoke(cli.cli, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*words: object) -> str:
    result = CliRunner().invoke(cli.cli, list(map(str, words)))
    assert isinstance(result.exception, HW7Error), result.output
    return str(result.exception)


# ---- the late policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "days", "earned", "penalty"),
    [
        (LatePolicy(points_per_day=5), 3, 80, 15),
        (LatePolicy(points_per_day=5, grace_days=2), 2, 80, 0),
        (LatePolicy(points_per_day=5, grace_days=1), 1.01, 80, 5),  # a day that has begun
        (LatePolicy(points_per_day=5, cap=12), 30, 80, 12),
        (LatePolicy(points_per_day=50), 3, 80, 80),  # nobody owes points
        (LatePolicy(share_per_day=0.1), 3, 80, 24),
        (LatePolicy(share_per_day=0.1, cap=0.25), 30, 80, 20),
        (LatePolicy(share_per_day=0.4), 30, 80, 80),
        (LatePolicy(share_per_day=0.1, grace_days=0.5), 0.5, 80, 0),
    ],
)
def test_a_penalty(policy: LatePolicy, days: float, earned: float, penalty: float) -> None:
    assert policy.penalty(days, earned) == pytest.approx(penalty, abs=1e-9)  # rounding of a few products


@pytest.mark.parametrize(
    ("late", "line", "said"),
    [
        ("points_per_day = 5\nshare_per_day = 0.1", 3, "either points_per_day or share_per_day"),
        ("grace_days = 1", 1, "either points_per_day or share_per_day"),
        ("share_per_day = 1.5", 2, "at most 1"),
        ("points_per_day = 5\ncap = 101", 3, "at most 100"),
        ("points_per_day = -5", 2, "number from 0"),
        ("points_per_day = true", 2, "number from 0"),
        ("points_a_day = 5", 2, "is not known"),
        ("points_per_day = inf", 2, "number from 0"),
    ],
)
def test_a_late_policy_that_is_refused(a_class: Class, late: str, line: int, said: str) -> None:
    path = a_class.out.parent / "rubric.toml"
    path.write_text(f"[late]\n{late}\n\n{path.read_text()}")
    with pytest.raises(HW7Error, match=said) as refused:
        load_rubric(path)
    assert f"line {line}:" in str(refused.value)


# ---- decisions ------------------------------------------------------------------------------------------------


def test_an_override_counts_and_the_graders_points_stand_beside_it(made: Class) -> None:
    before = made.csv()["student03"]
    told = call(
        "override", "student03", "2.1", "12.5", "--because", "By word of mouth", "--out", made.out, "--by", "Ann"
    )
    assert "now" in told
    row = made.csv()["student03"]
    assert (row["total"], row["2.1"], row["grader"]) == ("12.5", "12.5", before["total"])
    assert row["overrides"].startswith(
        f"2.1: 12.5 instead of {before['2.1']} of 100 points. By word of mouth. (Ann, 20"
    )
    assert row["verdict 2.1"] == before["verdict 2.1"]
    call("override", "student03", "2.1", "--undo", "--because", "A mistake", "--out", made.out)
    assert made.csv()["student03"] == before
    assert "By word of mouth" in call("log", "student03", "--out", made.out)


def test_decisions_survive_the_next_run_and_say_when_to_look_again(made: Class) -> None:
    call("override", "student03", "2.1", 12.5, "--because", "An oral exam", "--out", made.out)
    made.hand_in(student03="# better", student04="# other")
    made.run(jobs=2)
    row = made.csv()["student03"]
    assert row["total"] == "12.5"
    assert "2.1: look again, for it was decided about other files" in row["remarks"]
    assert "look again" not in made.csv()["student04"]["remarks"]
    assert "look again" not in call("show", "student03", "--out", made.out)  # the teacher's to know
    assert "look again" in call("show", "student03", "--out", made.out, "--teacher")


def test_the_same_decision_twice_is_one(made: Class) -> None:
    for _ in range(2):
        call("comment", "student03", "Well done", "--out", made.out)
        call("late", "student03", 2, "--out", made.out)
    assert len(read_entries(made.out)) == 13 + 2  # a run, twelve grades
    assert made.csv()["student03"]["comments"].count("Well done") == 1


def test_comments_add_up_and_the_last_is_taken_back_first(made: Class) -> None:
    for text in ("One", "Two"):
        call("comment", "student03", text, "--out", made.out)
    call("comment", "student03", "--undo", "--out", made.out)
    assert "One" in made.csv()["student03"]["comments"]
    assert "Two" not in made.csv()["student03"]["comments"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("override", "student03", "2.1", "101"), "no number from 0 to 100"),
        (("override", "student03", "2.1", "nan"), "no number"),
        (("override", "student03", "2.1", "much"), "no number"),
        (("override", "student03", "9.9", "1"), "no task '9.9'"),
        (("override", "student0", "2.1", "1"), "may be student00"),
        (("override", "nobody", "2.1", "1"), "no student 'nobody'"),
        (("override", "student03", "2.1"), "either POINTS, or --undo"),
        (("override", "student03", "2.1", "1", "--undo"), "either POINTS, or --undo"),
        (("override", "student03", "2.1", "1", "--because", "  "), "--because is empty"),
    ],
)
def test_what_is_no_override(made: Class, words: tuple[str, ...], said: str) -> None:
    if "--because" not in words:
        words = (*words, "--because", "so")
    assert said in refusal(*words, "--out", made.out)
    assert len(read_entries(made.out)) == 13


@pytest.mark.parametrize(
    "words", [("late", "student03", "366.5"), ("late", "student03", "soon"), ("comment", "student03")]
)
def test_what_is_no_decision(made: Class, words: tuple[str, ...]) -> None:
    refusal(*words, "--out", made.out)
    assert len(read_entries(made.out)) == 13


def test_late_days_without_a_policy_cost_nothing_and_say_so(made: Class) -> None:
    before = made.csv()["student03"]["total"]
    assert "no [late] policy" in call("late", "student03", 2, "--out", made.out)
    assert made.csv()["student03"]["total"] == before


def test_who_handed_in_nothing_stands_in_the_table_and_can_have_points(made: Class, tmp_path: Path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name,email\n" + "".join(f"student{n:02},Student {n},s{n}@example.org\n" for n in range(13)))
    made.run(jobs=2, roster=roster)
    row = made.csv()["student12"]
    assert (row["total"], row["verdict 2.1"], row["remarks"]) == ("0", "MISSING", "Handed in nothing.")
    call("override", "student12", "2.1", 40, "--because", "An oral exam", "--out", made.out)
    assert made.csv()["student12"]["total"] == "40"
    found, _ = mark_of("student12", made.out)
    assert (found.name, found.address, found.absent) == ("Student 12", "s12@example.org", True)
    made.hand_in(student12="# at last")
    made.run(jobs=2, roster=roster)
    assert not mark_of("student12", made.out)[0].absent


def test_an_address_that_is_none_is_refused_with_its_line(made: Class, tmp_path: Path) -> None:
    for address in ("nobody", "a@b@c", "a@b\nBcc: x@y", "a b@c", "=1@example.org"):
        (tmp_path / "roster.csv").write_text(f'id,name,email\nb01,Ann,"{address}"\n')
        with pytest.raises(HW7Error, match=r"student 1: .* no address"):
            made.run(jobs=1, roster=tmp_path / "roster.csv")


# ---- standing: any sequence of decisions ----------------------------------------------------------------------


def test_what_stands_after_any_sequence_of_decisions() -> None:
    """Against a plain retelling: the last override of each task that was not undone, a stack of comments, the last
    days."""
    draw = random.Random(5)
    for _ in range(300):
        points: dict[str, float] = {}
        comments: list[str] = []
        days, standing = 0.0, Standing.of([])
        for _ in range(draw.randrange(12)):
            undo, by = draw.random() < 0.3, draw.choice("ab")
            match draw.randrange(3):
                case 0:
                    task, number = draw.choice(["1.1", "2.1"]), draw.choice([0.0, 2.0])
                    standing.add(Override(student="s", by=by, task=task, points=number, undo=undo))
                    points = {each: n for each, n in points.items() if each != task} | ({} if undo else {task: number})
                case 1:
                    text = draw.choice("xyz")
                    standing.add(Comment(student="s", by=by, text=text, undo=undo))
                    comments = comments[:-1] if undo else [*comments, text]
                case _:
                    number = draw.choice([0.0, 1.0, 3.0])
                    standing.add(Late(student="s", by=by, days=number, undo=undo))
                    days = 0.0 if undo else number
        assert {task: each.points for task, each in standing.overrides.items()} == points
        assert [each.text for each in standing.comments] == comments
        assert (standing.late.days if standing.late else 0.0) == days


def test_a_mark_without_decisions_is_the_grade() -> None:
    for each in made_up_grades.a_class(40):
        made = mark(each, made_up_grades.RUBRIC)
        assert made.total == made.given == pytest.approx(each.total)
        assert (made.how, made.is_decided) == ([], False)
        assert {field.name for field in dataclasses.fields(Grade)} <= {field.name for field in dataclasses.fields(made)}


# ---- what changed ---------------------------------------------------------------------------------------------


def test_diff_of_one_run_with_itself_is_empty_and_names_who_came(made: Class, tmp_path: Path) -> None:
    assert call("diff", made.out, made.out) == "0 of 12 students changed\n"
    made.hand_in(student12="# late", **{f"student{n:02}": f"# again {n}" for n in range(8)})
    made.run(jobs=2)
    told = call("diff", f"{made.out}@1", made.out)
    assert "student12" in told
    assert "not in the old one" in told
    before, after = ({mark.student: mark.total for mark in current_marks(made.out, run).marks} for run in (1, 2))
    changed = [student for student, total in before.items() if after[student] != total]
    assert changed  # of eight, with two parts each, some are judged otherwise
    assert told.count("other files were handed in") == len(changed)
    assert "no run 3" in refusal("diff", f"{made.out}@3", made.out)
    assert "holds no grades" in refusal("diff", tmp_path, made.out)


def test_changes_add_up_to_the_difference_of_the_totals() -> None:
    draw = random.Random(3)
    for _ in range(50):
        rubric = made_up_grades.RUBRIC
        late = dataclasses.replace(rubric, late=LatePolicy(share_per_day=0.1))
        marks = []
        for seed in (1, 2):
            decisions = [
                Override(
                    student="a", by="t", task=draw.choice(list(made_up_grades.TASKS)), points=draw.choice([0.0, 1.0])
                ),
                Late(student="a", by="t", days=draw.choice([0.0, 2.0])),
            ]
            grade = made_up_grades.grade("a", 0.6, seed=seed)
            marks.append([mark(grade, draw.choice([rubric, late]), Standing.of(decisions))])
        found = list(changes(*marks))
        assert sum(each.new - each.old for each in found) == pytest.approx(marks[1][0].total - marks[0][0].total)
        assert all(each.why for each in found)


# ---- the journal ----------------------------------------------------------------------------------------------


def test_decisions_can_be_made_while_a_run_holds_its_journal(made: Class) -> None:
    with Journal(made.out / journal_name()):
        call("comment", "student03", "Meanwhile", "--out", made.out)
    assert "Meanwhile" in made.csv()["student03"]["comments"]
