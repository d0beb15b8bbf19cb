"""What README and docs say can be typed is typed here, in a folder of its own, with less data and fewer epochs.

A command is run unless `NOT_RUN` has a reason; `SMOKE` makes it cheap. Blocks that begin with `--- FILE` are changes
and must apply to that file; docs/instructors.md's new task is made in a copy of the project and graded there. The
handout's examples have their own test, test_handout.
"""

import ast
import doctest
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
import yaml
from project_copy import HW7_GRADE, copy_project, run_in
from submissions import imported, mutants, reference_files, reference_weights, write

import autograder.cli
import hw7.cli
from autograder.course.leaks import Scanner
from autograder.course.release import reference_sources
from autograder.course.stripping import secrets, stated
from autograder.rubric import load_rubric
from hw7.checks.public import Checks
from hw7.data.plates.source import PLATES_COUNTS
from hw7.report.experiments import EXPERIMENTS
from hw7.report.profiles import PROFILES
from hw7.report.work import NOTHING, images_of, work_of
from hw7.solution import PROJECT

README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
STUDENTS, INSTRUCTORS = PROJECT / "docs" / "students.md", PROJECT / "docs" / "instructors.md"
PROGRAMS = {"hw7": hw7.cli, "hw7-grade": autograder.cli}
GROUPS = {name: typer.main.get_command(module.cli) for name, module in PROGRAMS.items()}

# What is not run here, and why. The first that is found in a command counts.
NOT_RUN = {
    r"^python3? -m venv|^pip install|^\. ": "installs, or changes the shell; CI types README's lines",
    r"^tox|^pytest (tests|-m \"not slow)": "these are these tests",
    r"^(#!|#|export|shards=|sbatch|while|done|cd )|\$SLURM": "the shell's or Slurm's own",
    r"^jupyter": "a server that does not end by itself",
    r"^nbgrader": "test_course runs nbgrader's own commands, with an exchange",
    r"--dask|^dask": "needs a cluster; test_dask and test_jobs start one",
    r"^([A-Z_]+=\S+ )*(python )?benchmarks/": "measures for minutes, or needs a GPU; test_benchmarks",
    r"^hw7(-grade)? doctor": "looks at the machine, whatever it is; test_doctor",
    r"^hw7-grade (new-task|release)": "writes into the project; in a copy: test_a_task_that_is_added_as_the_page_says",
    r"^python -m hw7.checks.mistakes": "test_public_tests compares the page with the table",
}
# (pattern, what is typed in its place): less of everything, by each program's own options.
SMOKE = (
    (r"--limit \d+", "--limit 22"),
    (r"--epochs \d+", "--epochs 1"),
    (r"--size \d+", "--size 32"),
    (r"^hw7 (train|distill|prune) (?!.*--limit)", r"hw7 \1 --limit 22 "),
    (r"^hw7 pack(?!.*--no-check)", "hw7 pack --no-check"),  # `hw7 check` has run the same; with it: test_pack
    (r"--profile \w+", ""),
    (r"^hw7 reproduce", "hw7 reproduce --profile smoke --only student-c --jobs 1"),
    (r"--rubric rubric-b.toml", "--rubric distillation.toml"),
    (r"^hw7-grade run (?!.*--rubric)", "hw7-grade run --rubric distillation.toml "),
    (r"\b(STUDENT|NAME)\b", "ada"),
)


# ---- reading the pages -------------------------------------------------------------------------------------------


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of these languages, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


@dataclass(frozen=True)
class Command:
    """One command of a page. text: without the folder of its program."""

    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text}"

    @property
    def program(self) -> str:
        return self.text.partition(" ")[0]

    @property
    def reason(self) -> str:
        """Why it is not run; "" where it is."""
        return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, self.text)), "")


def commands(page: Path) -> list[Command]:
    """Every command of a page's shell blocks; continued lines are joined, `a && b` are two."""
    lines = [line for block in blocks(page, "sh", "bash") for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&") if part.strip()]
    return [Command(page, " ".join(re.sub(r"^(srun )?(\.venv/bin/)?", "", part).split())) for part in parts]


ALL = [command for page in PAGES for command in commands(page)]


# ---- everything can be typed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [each for each in ALL if each.program in PROGRAMS], ids=str)
def test_every_command_is_understood(command: Command) -> None:
    words = shlex.split(command.text, comments=True)
    subcommand = GROUPS[words[0]].commands[words[1]]  # type: ignore[attr-defined]
    # Raises a usage error for an unknown option, a missing argument or a value of the wrong kind.
    subcommand.make_context(words[1], words[2:])


def test_there_are_commands_in_the_docs() -> None:
    programs = [command.program for command in ALL]
    assert programs.count("hw7") >= 20
    assert programs.count("hw7-grade") >= 15


def test_every_command_is_run_or_has_a_reason() -> None:
    runnable = (*PROGRAMS, "python", "pytest", "mkdir")
    assert [str(command) for command in ALL if not command.reason and command.program not in runnable] == []
    idle = [pattern for pattern in NOT_RUN if not any(re.search(pattern, command.text) for command in ALL)]
    assert idle == []


def test_commands_within_sentences_exist() -> None:
    """`hw7 check 2.1` in a sentence: the command is there, and so are its options."""
    found = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for program, name, rest in re.findall(r"`(?:\.venv/bin/)?(hw7|hw7-grade) ([a-z-]+)([^`]*)`", text):
            group = GROUPS[program]
            assert name in group.commands, f"{page.name}: {program} {name}"  # type: ignore[attr-defined]
            parameters = group.commands[name].params  # type: ignore[attr-defined]
            options = {each for parameter in parameters for each in (*parameter.opts, *parameter.secondary_opts)}
            assert set(re.findall(r"--[a-z-]+", rest)) <= {*options, "--help"}, f"{page.name}: {program} {name}{rest}"
            found += 1
    assert found >= 20


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh", "bash")], ids=lambda page: page.name)
def test_shell_blocks_are_shell(page: Path) -> None:
    for block in blocks(page, "sh", "bash"):
        result = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


def test_templates_of_clusters_are_yaml_and_call_commands_that_exist() -> None:
    (block,) = blocks(PROJECT / "docs" / "clusters.md", "yaml")
    (container,) = yaml.safe_load(block)["spec"]["template"]["spec"]["containers"]
    words = shlex.split(container["args"][0])
    assert words[:2] == ["hw7-grade", "run"]
    GROUPS["hw7-grade"].commands["run"].make_context("run", words[2:])  # type: ignore[attr-defined]


def test_a_wrong_command_would_be_found() -> None:
    for text, reason in (
        ("hw7 pack --out", "requires an argument"),
        ("hw7 check --task 2.1", "No such option"),
        ("hw7-grade run submissions", "(?i)missing.*out"),
        ("hw7-grade export --out grades --to pdf", "not one of"),
    ):
        with pytest.raises(Exception, match=reason):
            test_every_command_is_understood(Command(STUDENTS, text))


GUIDES = [*PAGES, PROJECT / "CONTRIBUTING.md", PROJECT / "autograder" / "course" / "templates" / "README.md.j2"]
OWN_ENVIRONMENT = {"colab.md": "a session of Colab or Kaggle is one, with the PyTorch that fits its GPU"}


@pytest.mark.parametrize("page", [page for page in GUIDES if "pip install " in page.read_text()], ids=lambda p: p.name)
def test_the_first_installation_of_a_guide_goes_into_a_new_environment(page: Path) -> None:
    """Debian and others refuse `pip install` outside of one; and no guide shall change another project's packages."""
    before, _, _ = page.read_text().partition("pip install ")
    typed_together = before[before.rfind("\n\n") :]  # its block or sentence
    assert ("-m venv" in typed_together) != (page.name in OWN_ENVIRONMENT)


# ---- everything is typed -----------------------------------------------------------------------------------------


def page_file(page: Path, name: str) -> str:
    """The block that begins with `# NAME`: a file."""
    (text,) = [text for text in blocks(page, "toml") if text.startswith(f"# {name}\n")]
    return text


def call(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command: ours in this process, which has torch loaded, others by the shell."""
    words = shlex.split(text, comments=True)
    if words[0] not in PROGRAMS:
        program = {
            "python": [sys.executable],
            "pytest": [sys.executable, "-m", "pytest", "-q", "assignments/hw7/tests"],
        }
        subprocess.run([*program.get(words[0], words[:1]), *words[1:]], check=True)
        return
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # the command sets its own
    with pytest.raises(SystemExit) as end:
        PROGRAMS[words[0]].app()
    assert not end.value.code, text


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class of two, `submissions`, and its grades, `grades`, given by the command."""
    folder = tmp_path_factory.mktemp("class")
    write(reference_files(), reference_weights(), folder / "submissions" / "ada")
    stubs = {name: (PROJECT / "assignments" / "hw7" / name).read_bytes() for name in reference_files()}
    write(stubs, None, folder / "submissions" / "grace")
    (folder / "distillation.toml").write_text(page_file(INSTRUCTORS, "distillation.toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("hw7-grade run submissions --out grades --jobs 1 --rubric distillation.toml", patch)
    table = (folder / "grades" / "grades.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in table[1:]] == [["ada", "100"], ["grace", "0"]]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not c.reason for c in commands(page))], ids=lambda p: p.name
)
def test_the_commands_of_a_page_run(
    page: Path, graded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, in one folder that has what the page takes for granted: the project's folders, a class, its grades."""
    counts = {"training": 66, "validation": 33, "testing": 22, "pretraining": 40}
    for split, count in counts.items():
        monkeypatch.setitem(PLATES_COUNTS, split, count)  # 3,430 validation images would take most of the time
    monkeypatch.setattr("hw7.checks.public.IMAGES", 132)  # of 330: the reference has its points with these as well
    monkeypatch.chdir(tmp_path)
    clean = shutil.ignore_patterns("__pycache__", ".*", "out")
    for name in ("assignments", "reference_solutions"):
        shutil.copytree(PROJECT / name, name, ignore=clean)
    if page == STUDENTS:  # at the end of the week: all is done
        shutil.copytree("reference_solutions/hw7", "assignments/hw7", dirs_exist_ok=True)
    if page.name == "teaching-assistants.md":  # where nbgrader fetches it
        shutil.copytree("reference_solutions/hw7", "hw7")
    shutil.copy(graded / "distillation.toml", tmp_path)
    for command in commands(page):
        if command.reason:
            continue
        text = command.text
        for pattern, cheaper in SMOKE:
            text = re.sub(pattern, cheaper, text)
        for option in re.findall(r"^hw7-grade (?:run|show|export|override)\b.*--out (\S+)", text):
            if not Path(option).exists() and not Path("rehearsal").exists():  # graded already: a run has nothing to do
                shutil.copytree(graded / "grades", option)
        for folder in re.findall(r"^hw7-grade (?:run|similar) .*?\b(submi\w+)", text):
            for student in ("ada", "grace") if not Path(folder).exists() else ():
                below = "hw7" if folder == "submitted" else ""  # nbgrader's tree
                shutil.copytree(graded / "submissions" / student, Path(folder, student, below))
        call(text, monkeypatch)
    if page == INSTRUCTORS:
        said = capsys.readouterr().out
        assert "reference: 100 of 100 points" in said
        assert "stubs: 0 of 100 points" in said
    if page == STUDENTS:
        assert Path("hw7.zip").is_file()
        assert 50_000 < Path("assignments/hw7/weights.safetensors").stat().st_size <= 300_000


# ---- Python, changes, messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [README, STUDENTS, INSTRUCTORS], ids=lambda page: page.name)
def test_examples_print_what_stands_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    text = "\n".join(blocks(page, "python"))
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert len(examples.examples) >= 3
    with imported(reference_files()):
        assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0  # doctest prints what differs


def test_all_python_of_the_docs_is_run_somewhere() -> None:
    """Examples are in the handout (test_handout) and in the three pages above."""
    pages = {"README.md", "handout.md", "students.md", "instructors.md"}
    assert {page.name for page in PAGES if blocks(page, "python")} == pages


EXAMPLE = ("3.6", "slimming_penalty", "--chapter", "pruning")  # the task that docs/instructors.md adds


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the command of that page was typed."""
    if EXAMPLE[0] in [task.id for task in load_rubric().tasks]:
        pytest.skip(f"there is a task {EXAMPLE[0]} of your own; the page's example has that id")
    assert f"hw7-grade new-task {' '.join(EXAMPLE)}\n" in blocks(INSTRUCTORS, "sh")
    copy = copy_project(tmp_path_factory.mktemp("project"))
    result = run_in(copy, "-c", HW7_GRADE, "new-task", *EXAMPLE)
    assert result.returncode == 0, result.stderr
    return copy


def changed_files(root: Path) -> dict[str, str]:
    """The files of a project as the blocks of docs/instructors.md change them, one block after the other."""
    files: dict[str, str] = {}
    for block in blocks(INSTRUCTORS, "diff", "python", "toml"):
        header, _, body = block.partition("\n")
        name = re.sub("^(---|#) ", "", header)
        if name == header or "/" not in name:
            continue
        text = files.get(name) or ((root / name).read_text() if (root / name).exists() else "")
        if header.startswith("---"):
            lines = body.splitlines()
            old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
            new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
            assert f"\n{text}".count(f"\n{old}") == 1, f"{name} has not once:\n{old}"
            files[name] = f"\n{text}".replace(f"\n{old}", f"\n{new}")[1:]
        else:
            stub = text.find(f"def {EXAMPLE[1]}(")  # to the end of the file
            files[name] = text[:stub] + body if name.endswith(".py") else body
    return files


def test_changes_apply_and_leave_python_and_toml(stubs: Path) -> None:
    files = changed_files(stubs)
    assert len(files) >= 9
    for name, text in files.items():
        if name.endswith(".py"):
            ast.parse(text)
        elif name.endswith(".toml"):
            tomllib.loads(text)


def test_adding_a_task_takes_six_steps_and_the_first_is_the_command() -> None:
    section = INSTRUCTORS.read_text().partition("## Add a task")[2].partition("\n## ")[0]
    assert re.findall(r"^\*\*(\d)\.", section, re.MULTILINE) == list("123456")
    assert "hw7-grade new-task" in section.partition("**2.")[0]


def test_rubrics_of_the_docs_are_rubrics(tmp_path: Path) -> None:
    path = tmp_path / "distillation.toml"
    path.write_text(page_file(INSTRUCTORS, "distillation.toml"))
    assert [task.id for task in load_rubric(path).tasks] == ["2.1", "2.2"]


IN_A_COPY = """
from pathlib import Path
import test_handout
from submissions import HIDDEN, PROJECT, alternatives, mutants, outcomes, reference_files, rubric
from autograder.course.nbgrader import set_up
from autograder.course.new_task import left_to_do
from autograder.course.release import release
from autograder.grading import hidden_cases
from hw7.checks.cases import Verdict
from hw7.checks.mistakes.__main__ import as_page
from hw7.checks.public import Checks

assert PROJECT == Path.cwd(), "this is not the copy"
assert left_to_do() == []

# graded
asked = hidden_cases(rubric(), HIDDEN)["3.6"]
names = ("3.6-right", "pruning-penalty-as-a-loop")
right = [reference_files(), *(each.files for each in alternatives() if each.id in names)]
assert len(right) == 3
for files in right:
    assert {each.verdict for each in outcomes(files, asked).values()} == {Verdict.RIGHT}
wrong = [each for each in mutants() if each.task == "3.6"]
assert len(wrong) == 5
for mutant in wrong:
    found = [each for each in outcomes(mutant.files, asked).values() if each.verdict is not Verdict.RIGHT]
    assert found, mutant.id
    assert {each.mistake for each in found} - {""} == set(mutant.mistakes), mutant.id

# released
assert "assignments/hw7/tests/cases/3.6.safetensors" in release(PROJECT)
release(PROJECT, check=True)
stub = Path("assignments/hw7/solution/pruning.py").read_text()
assert 'raise NotImplementedError("Task 3.6: slimming_penalty")' in stub
assert "A channel whose scale is 0 is the same for every image." in stub
assert [each.points for each in Checks.of("reference_solutions/hw7").check("3.6")] == [2, 1]
assert {each.outcome.verdict for each in Checks.of("assignments/hw7").check("3.6")} == {Verdict.MISSING}
assert 'lab.check(\\\\"3.6\\\\")' in Path("assignments/hw7/hw7.ipynb").read_text()
set_up(Path("course"), "compression")

# documented
assert Path("docs/mistakes.md").read_text() == as_page()
assert "| `penalty-signed` | 3.6 |" in as_page()
test_handout.test_examples_print_what_stands_there()
test_handout.test_every_task_of_the_rubric_has_its_section()
test_handout.test_a_section_has_all_that_a_task_needs("3.6")
test_handout.test_signatures_are_those_of_the_solution()
"""


@pytest.mark.slow
def test_a_task_that_is_added_as_the_page_says(stubs: Path) -> None:
    """In a copy of the project: right solutions get its points, wrong ones are told why, a stub is released."""
    for name, text in changed_files(stubs).items():
        (stubs / name).write_text(text)
    page = run_in(stubs, "-m", "hw7.checks.mistakes")
    (stubs / "docs" / "mistakes.md").write_text(page.stdout)
    result = run_in(stubs, "-c", IN_A_COPY)
    assert result.returncode == 0, result.stderr
    for words in (["check"], ["format", "--check"]):
        result = run_in(stubs, "-m", "ruff", *words, ".")
        assert result.returncode == 0, result.stdout


def test_the_failure_that_students_read_is_one(tmp_path: Path) -> None:
    (mutant,) = [each for each in mutants() if each.id == "2.1-mean-over-classes"]
    checks = Checks.of(write(mutant.files, None, tmp_path))
    (shown,) = blocks(STUDENTS, "text")
    said = checks.explain("2.1", checks.part("2.1", "values")) + "\n"
    assert shown == said.replace(f' --solution "{checks.directory}"', "")


def _texts() -> list[str]:
    """All strings of the library and the grader; what is filled in is '…'."""
    trees = [
        ast.parse(path.read_text()) for package in ("hw7", "autograder") for path in (PROJECT / package).rglob("*.py")
    ]
    found = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
            found.append("".join(parts))
    return found


def test_messages_that_students_may_meet_are_those_of_the_code() -> None:
    section = STUDENTS.read_text().partition("## Messages")[2].partition("\n## ")[0]
    messages = [b or a for b, a in re.findall(r"^\| (?:``(.*?)``|`(.*?)`) \|", section, re.MULTILINE)]
    assert len(messages) >= 10
    texts = _texts()
    assert [message for message in messages if not any(message in text for text in texts)] == []


@pytest.mark.slow
def test_the_students_page_gives_no_answer_away() -> None:
    """It may be handed out with the assignment."""
    sources = reference_sources().items()
    hidden = [text for name, source in sources for text in secrets(source, name)]
    public = [text for name, source in sources if name.endswith(".py") for text in stated(source, name)]
    assert Scanner(hidden, public).find({"docs/students.md": STUDENTS.read_bytes()}) == []


# ---- the pages among each other ----------------------------------------------------------------------------------


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    (test_command,) = [line for line in lines if "tox" in line]
    assert test_command in (PROJECT / ".ci" / "run").read_text()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tables_of_the_docs_are_those_of_the_code() -> None:
    text = (PROJECT / "docs" / "reproducing.md").read_text()
    for name, profile in PROFILES.items():
        work = sum((work_of(each, profile, images_of(profile)) for each in EXPERIMENTS), NOTHING)
        assert re.search(rf"^\| `{name}` \|.*\| {work.trained:,} \| {work.scored:,} \|", text, re.MULTILINE), (
            name,
            work,
        )
        if name == "quick":
            assert f"That is {work.trained / 1e6:.1f} million\npictures" in README.read_text()
    for name in EXPERIMENTS:
        # `student-c`, `-d`, `-e` stand for three
        stem, _, end = name.rpartition("-")
        assert f"`{name}`" in text or (f"`{stem}-" in text and f"`-{end}`" in text), name
