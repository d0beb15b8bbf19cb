"""Many submissions on any executor: the same grades everywhere, and nothing lost when workers, or we, are killed.

Most tests grade with `made_up`, which does what the submission's losses.py says: to die, to raise, to take its time.
"""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import made_up_grades
import pytest
from made_up_class import REAL_RUBRIC, RUBRIC, Class, graded, made_up
from processes import descendants, living, until

from autograder import batch, worker
from autograder.exports.csv_table import export_csv
from autograder.grades import Grade
from autograder.intake.submission import Location, Submission
from autograder.journal import Key, current_marks, read_journals
from autograder.rubric import Rubric, load_rubric
from autograder.worker import Settings, grade_one, grader_digest
from hw7 import HW7Error
from hw7.checks.cases import Verdict
from hw7.support.workers import Workers


def threads() -> Executor:
    return ThreadPoolExecutor(3)


def processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


# ---- the same grades everywhere -------------------------------------------------------------------------------
def test_every_executor_gives_the_same_grades(a_class: Class, tmp_path: Path) -> None:
    wanted = graded(a_class.run(jobs=1))
    assert [grade.student for grade in wanted] == [f"student{n:02}" for n in range(12)]
    assert len({grade.total for grade in wanted}) > 1  # or there would be little to compare
    for n, make in enumerate((lambda: Workers(3), threads, processes)):
        a_class.out = tmp_path / f"other {n}"
        with make() as executor:
            assert graded(a_class.run(executor=executor)) == wanted


def test_another_seed_is_another_key(a_class: Class, settings: Settings) -> None:
    first = a_class.run(jobs=1).grades
    second = a_class.run(replace(settings, seed=b"other"), jobs=1).grades
    assert a_class.lines() == 24
    assert not {Key.of(grade) for grade in first} & {Key.of(grade) for grade in second}


def test_no_more_are_out_than_asked_for(a_class: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken in and not graded yet is held in memory: it must be bounded."""
    taken, most = 0, 0
    take_in = batch.take_in

    def counting(location: Location) -> Submission:
        nonlocal taken, most
        taken += 1
        most = max(most, taken - a_class.lines())
        return take_in(location)

    monkeypatch.setattr(batch, "take_in", counting)
    with ThreadPoolExecutor(1) as executor:
        a_class.run(executor=executor, in_flight=3)
    assert taken == 12
    assert most <= 4


@pytest.mark.slow
def test_real_grades_are_the_same_on_one_worker_and_on_two(tmp_path: Path) -> None:
    """Right and wrong solutions of one task, through the jail, in processes and in threads of this one."""
    import submissions

    from autograder.jail import best_tier
    from autograder.rubric import rubric_digest

    (tmp_path / "rubric.toml").write_text(REAL_RUBRIC)
    settings = Settings(load_rubric(tmp_path / "rubric.toml"), b"seed", tier=best_tier()[0])
    made = Class(tmp_path, settings)
    wrong = [entry.files for entry in submissions.mutants() if entry.task == "3.4"][:4]
    for n, files in enumerate([submissions.reference_files(), *wrong]):
        submissions.write(files, None, made.submissions / f"student{n}")
    wanted = graded(made.run(jobs=1, grade=grade_one))
    assert [grade.total == 100 for grade in wanted] == [True] + [False] * 4
    assert wanted[0].rubric == rubric_digest(settings.rubric, settings.hidden.digest())
    made.out = tmp_path / "two"
    assert graded(made.run(jobs=2, grade=grade_one)) == wanted
    made.out = tmp_path / "threads"
    with ThreadPoolExecutor(2) as executor:
        assert graded(made.run(executor=executor, grade=grade_one)) == wanted


# ---- what is graded again -------------------------------------------------------------------------------------
def test_what_is_graded_is_not_graded_again(a_class: Class) -> None:
    first = a_class.run()
    assert first.graded == 12
    second = a_class.run()
    assert second.graded == 0
    assert second.grades == first.grades
    assert a_class.lines() == 12


def test_a_changed_submission_is(a_class: Class) -> None:
    a_class.run()
    a_class.hand_in(student03="# better")
    assert a_class.run().graded == 1
    a_class.hand_in(student12="# late")
    result = a_class.run()
    assert result.graded == 1
    assert [grade.student for grade in result.grades][-1] == "student12"


def test_a_submission_that_is_changed_back_has_its_first_grade(a_class: Class) -> None:
    first = a_class.run().grades
    a_class.hand_in(student03="# worse")
    assert a_class.run().grades != first
    a_class.hand_in(student03="# 3")
    result = a_class.run()
    assert (result.graded, result.grades) == (0, first)


def test_a_changed_rubric_or_grader_grades_everything_again(
    a_class: Class, rubric: Rubric, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_class.run()
    rubric.path.write_text(RUBRIC + "# changed\n")
    changed = replace(a_class.settings, rubric=load_rubric(rubric.path))
    assert a_class.run(changed).graded == 12
    assert a_class.run(replace(changed, source="fashion-mnist")).graded == 12
    monkeypatch.setattr(worker, "grader_digest", lambda tier: "another grader")
    with threads() as executor:
        assert a_class.run(changed, executor=executor).graded == 12
    assert a_class.lines() == 48


def test_a_student_who_has_withdrawn_is_not_in_the_table(a_class: Class) -> None:
    a_class.run()
    (a_class.submissions / "student03").rename(a_class.submissions.parent / "withdrawn")
    assert len(a_class.run().grades) == 11
    assert "student03" not in a_class.csv()


def test_the_digest_of_the_grader_changes_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in worker.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "code.py").write_text("1")
    monkeypatch.setattr(worker, "PROJECT", tmp_path)
    digest = grader_digest.__wrapped__
    first = digest("A")
    assert digest("A") == first
    assert digest("B") != first
    (tmp_path / "hw7" / "__pycache__").mkdir()
    (tmp_path / "hw7" / "__pycache__" / "code.pyc").write_text("1")
    assert digest("A") == first
    for package in worker.PACKAGES:
        (tmp_path / package / "code.py").write_text("2")
        assert digest("A") != first
        (tmp_path / package / "code.py").write_text("1")
    monkeypatch.setattr(worker.importlib.metadata, "version", lambda package: "9.9")
    assert digest("A") != first


def test_the_digest_of_the_rubric_tells_apart_what_grades_depend_on(settings: Settings) -> None:
    others = [
        replace(settings, seed=b"other"),
        replace(settings, source="food11:x"),
        replace(settings, rubric=settings.rubric.with_timeout(1)),
    ]
    assert len({each.rubric_digest for each in [settings, *others]}) == 4
    assert "seed'" not in repr(settings)


# ---- trouble --------------------------------------------------------------------------------------------------
def test_a_worker_that_dies_costs_no_grade(a_class: Class, tmp_path: Path) -> None:
    """One dies each time, one only once; everybody else's grade is what it would have been."""
    wanted = {grade.student: grade for grade in graded(a_class.run())}
    a_class.hand_in(student04="die", student07=f"die {tmp_path / 'died'}")
    result = a_class.run()
    assert result.failures == ("student04",)
    for grade in graded(result):
        if grade.student == "student04":
            assert grade.problem == "the grader's worker died"
            assert ({task.verdict for task in grade.tasks}, grade.total) == ({Verdict.MISSING}, 0)
        elif grade.student != "student07":
            assert grade == wanted[grade.student]
        else:
            assert grade.tasks
    assert (tmp_path / "died").exists()
    assert a_class.csv()["student04"]["total"] == "0"
    assert "worker died" in a_class.csv()["student04"]["remarks"]


def test_the_graders_own_failure_is_not_for_ever(a_class: Class) -> None:
    a_class.hand_in(student04="raise")
    first = a_class.run()
    assert first.failures == ("student04",)
    failed = next(grade for grade in first.grades if grade.student == "student04")
    assert "bug" not in failed.problem  # which the student reads
    assert "a bug of ours" in failed.output
    a_class.hand_in(student05="# changed")
    assert a_class.run().graded == 2  # the failed one is tried again


def test_what_the_teacher_must_fix_stops_the_run_and_keeps_the_rest(a_class: Class) -> None:
    a_class.hand_in(student09="refuse")
    with pytest.raises(HW7Error, match="no thresholds"):
        a_class.run(jobs=1)
    assert 1 <= a_class.lines() <= 11
    assert len(a_class.csv()) == a_class.lines()
    a_class.hand_in(student09="# fixed")
    assert len(a_class.run().grades) == 12


def test_a_foreign_executor_that_breaks_loses_nothing(a_class: Class) -> None:
    a_class.hand_in(student09="die")
    with processes() as executor, pytest.raises(HW7Error, match="broken"):
        a_class.run(executor=executor, in_flight=1)
    assert a_class.lines() == 9
    a_class.hand_in(student09="# fixed")
    assert len(a_class.run().grades) == 12


def test_a_worker_with_another_grader_is_refused(a_class: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "grader_digest", lambda tier: "another grader")  # here, not in the workers
    with pytest.raises(HW7Error, match="another version"):
        a_class.run()
    assert a_class.lines() == 0


def test_two_runs_on_one_folder_refuse(a_class: Class) -> None:
    free = threading.Event()

    def waiting(submission: Submission, settings: Settings) -> Grade:
        free.wait()
        return made_up(submission, settings)

    with threads() as executor:
        first = threading.Thread(target=lambda: a_class.run(executor=executor, grade=waiting))
        first.start()
        try:
            until((a_class.out / "journal.jsonl").exists)
            with pytest.raises(HW7Error, match="another run"):
                a_class.run()
        finally:
            free.set()
            first.join()
    assert a_class.lines() == 12


def test_a_submission_with_a_problem_has_a_grade_that_says_so(a_class: Class) -> None:
    (a_class.submissions / "student99.zip").write_bytes(b"no zip")
    result = a_class.run()
    grade = result.grades[-1]
    assert grade.student == "student99"
    assert grade.problem
    assert result.failures == ()
    assert a_class.run().graded == 0


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_no_submissions(a_class: Class, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    a_class.submissions = tmp_path / place
    with pytest.raises(HW7Error, match=place):
        a_class.run()


# ---- Ctrl-C and kill -9 ---------------------------------------------------------------------------------------
RUN = """
import sys
from pathlib import Path
import made_up_class as t
t.rubric_module.PARTS["made_up"] = tuple(t.PARTS)
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    settings = t.Settings(t.load_rubric(folder / "rubric.toml"), b"seed")
    result = t.run(folder / "submissions", folder / "out", settings, jobs=2, grade=t.made_up)
    print(result.interrupted, len(result.missing))
"""


def start(a_class: Class) -> subprocess.Popen[str]:
    """The same run in a process group of its own, as a shell starts it."""
    folder = a_class.out.parent
    (folder / "start.py").write_text(RUN)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, folder / "start.py", folder],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_ctrl_c_keeps_what_is_done(a_class: Class) -> None:
    a_class.hand_in(student05="sleep 300", student06="sleep 300")
    with start(a_class) as process:
        until(lambda: a_class.out.exists() and a_class.lines() >= 5)
        everyone = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate(timeout=900)
    assert out.split() == ["True", str(12 - a_class.lines())], err
    assert "Traceback" not in err
    assert len(a_class.csv()) == a_class.lines()
    until(lambda: not everyone & living().keys())
    a_class.hand_in(student05="# 5", student06="# 6")
    missing = 12 - a_class.lines()
    result = a_class.run()
    assert (result.graded, len(result.grades)) == (missing, 12)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_kill_9_keeps_what_is_done_and_leaves_no_process(a_class: Class) -> None:
    a_class.hand_in(student05="sleep 300", student06="sleep 300")
    with start(a_class) as process:
        until(lambda: a_class.out.exists() and a_class.lines() >= 5)
        everyone = descendants(process.pid)
        process.kill()  # the coordinator alone
    assert len(everyone) >= 3
    until(lambda: not everyone & living().keys())
    before = read_journals(a_class.out)
    a_class.hand_in(student05="# 5", student06="# 6")
    result = a_class.run()
    assert len(result.grades) == 12
    assert result.graded == 12 - len(before)
    assert set(map(Key.of, before)) <= set(map(Key.of, read_journals(a_class.out)))


# ---- shards ---------------------------------------------------------------------------------------------------
def test_shards_make_the_whole(a_class: Class, tmp_path: Path) -> None:
    wanted = graded(a_class.run())
    a_class.out = tmp_path / "sharded"
    for index in range(5):
        a_class.run(shard=(index, 5))
    result = a_class.run()
    assert result.graded == 0
    assert graded(result) == wanted
    assert len(list(a_class.out.glob("journal-*-of-5.jsonl"))) == 5


# ---- OUT ------------------------------------------------------------------------------------------------------
def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match="no grades"):
        current_marks(tmp_path)


# ---- grades.csv -----------------------------------------------------------------------------------------------
def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_columns_of_the_table(tmp_path: Path) -> None:
    grades = [made_up_grades.grade("b", 0.5), made_up_grades.grade("a"), made_up_grades.broken("c")]
    header, *rows = read_csv(export_csv(grades, made_up_grades.RUBRIC, tmp_path))
    tasks = list(made_up_grades.TASKS)
    decided = ["grader", "overrides", "late", "comments"]
    assert header == ["student", "total", *tasks, *(f"verdict {task}" for task in tasks), *decided, "remarks"]
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert rows[0][1] == "100"
    points = [f"{sum(parts.values()):g}" for _, parts in made_up_grades.TASKS.values()]
    assert rows[0][2:] == [*points, *["RIGHT"] * 14, "100", "", "", "", ""]
    assert float(rows[1][1]) == pytest.approx(sum(map(float, rows[1][2:16])))
    assert rows[2][1:] == ["0"] * 15 + ["MISSING"] * 14 + [
        "0",
        "",
        "",
        "",
        "The zip file is damaged: hand it in again.",
    ]
    again = export_csv(grades[::-1], made_up_grades.RUBRIC, tmp_path / "again")
    assert again.read_bytes() == (tmp_path / "grades.csv").read_bytes()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", " =", "＝", "\0="])
def test_no_cell_is_a_formula(tmp_path: Path, start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    grade = replace(made_up_grades.hostile(text, text), problem="")
    _, row = read_csv(export_csv([grade], made_up_grades.RUBRIC, tmp_path))
    for cell in row:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", " ", "＝"))
    assert "HYPERLINK(1)" in row[0]
    assert "HYPERLINK(1)" in row[-1]


def test_hostile_names_stay_in_their_cells(tmp_path: Path) -> None:
    grades = [made_up_grades.hostile(text, f"{n} {text}") for n, text in enumerate(made_up_grades.HOSTILE)]
    rows = read_csv(export_csv(grades, made_up_grades.RUBRIC, tmp_path))
    assert len(rows) == 1 + len(grades)
    assert {len(row) for row in rows} == {2 + 14 + 14 + 4 + 1}
    assert "\x1b" not in (tmp_path / "grades.csv").read_text(encoding="utf-8")


def test_grades_without_security_say_so(tmp_path: Path) -> None:
    grade = replace(made_up_grades.grade("a"), tier="D")
    _, row = read_csv(export_csv([grade], made_up_grades.RUBRIC, tmp_path))
    assert "not secure" in row[-1]


# ---- the workers ----------------------------------------------------------------------------------------------
def _die(after: float) -> None:
    time.sleep(after)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_its_own_tasks_affair_only() -> None:
    with Workers(2) as workers:
        dying, living = workers.submit(_die, 0.0), workers.submit(pow, 2, 10)
        with pytest.raises(BrokenExecutor, match="-9"):
            dying.result()
        assert living.result() == 1024
        assert [workers.submit(pow, 2, n).result() for n in range(5)] == [1, 2, 4, 8, 16]


def test_exceptions_come_back() -> None:
    with Workers(1) as workers:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            workers.submit(divmod, 1, 0).result()
        assert workers.submit(pow, 2, 3).result() == 8


def test_workers_start_when_needed_and_are_kept() -> None:
    with Workers(8) as workers:
        assert not workers._all
        assert len({workers.submit(os.getpid).result() for _ in range(5)}) == 1
    assert not workers._all


def test_leaving_stops_what_is_not_waited_for() -> None:
    with Workers(1) as workers:
        running, waiting = workers.submit(time.sleep, 10**6), workers.submit(time.sleep, 10**6)
    assert waiting.cancelled()
    assert isinstance(running.exception(), BrokenExecutor)


# ---- progress -------------------------------------------------------------------------------------------------
def test_progress_counts_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = batch.Progress(4, every=0.0)
    progress.add(made_up_grades.grade("a"), new=False)
    progress.add(made_up_grades.grade("b", 0.0))
    progress.add(made_up_grades.broken("c"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("graded 3 of 4: 1 with full marks, 1 with some, 1 not gradable; ")
