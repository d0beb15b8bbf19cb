"""Submissions for tests: the reference solution with some functions replaced, and what `answers/` holds.

`answers/CHAPTER/wrong-TASK.toml`, and `wrong-TASK-MORE.toml` where one file would be too long, have wrong solutions
(mutants), `right.toml` right ones that are written differently (alternatives). Each gives `code` for a module: its
functions, classes and constants take the place of the reference's of the same name, the rest of the module stays. A
mutant may say instead what it changes in its file's `right` code (`was` -> `now`, each found exactly once): small
differences that can be read. `unseen.toml` has mistakes that were written before anybody looked at the messages.
"""

import ast
import hashlib
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from autograder.grades import TaskGrade
from autograder.grading import Hidden, grade_submission
from autograder.intake.submission import Submission
from autograder.rubric import Rubric, load_rubric
from hw7.checks.calls.contract import LazySolution
from hw7.checks.calls.run import module_of, run_call
from hw7.checks.cases import Answer, Call, Case, Outcome, Status
from hw7.checks.importable import import_trouble, installed, told
from hw7.checks.scoring import AnswerSheet
from hw7.solution import PROJECT, Solution, load_solution

REFERENCE = PROJECT / "reference_solutions" / "hw7"
HERE = Path(__file__).parent
HIDDEN = Hidden(b"a seed for both corpora")
EVERY = 20  # one entry in so many is tried again and again; all of them with the slow tests
Files = dict[str, bytes]


@cache
def reference_files() -> Mapping[str, bytes]:
    """The reference's source files by their names in a submission: "solution/losses.py" and so on."""
    paths = sorted((REFERENCE / "solution").rglob("*.py"))
    return {path.relative_to(REFERENCE).as_posix(): path.read_bytes() for path in paths}


@cache
def reference_weights() -> bytes:
    return (REFERENCE / "weights.safetensors").read_bytes()


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement of a module defines, imports aside."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


def replace_definitions(source: str, code: str) -> str:
    """`source` with `code` at its end, and without what `code` defines anew."""
    names = {name for node in ast.parse(code).body for name in _defined(node)}
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if _defined(node) & names:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            del lines[first - 1 : node.end_lineno]
    return "\n".join(lines).rstrip() + "\n\n\n" + code.strip("\n") + "\n"


def with_code(code: Mapping[str, str]) -> Files:
    """The reference's files with this code in its modules; modules that it has not are new files."""
    files = dict(reference_files())
    for module, text in code.items():
        name = f"solution/{module}"
        old = files.get(name, b"").decode()
        files[name] = (replace_definitions(old, text) if old.strip() else text.lstrip("\n")).encode()
    return files


def write(files: Mapping[str, bytes], weights: bytes | None, directory: Path) -> Path:
    """The submission as a folder."""
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    if weights is not None:
        (directory / "weights.safetensors").write_bytes(weights)
    return directory


@contextmanager
def imported(files: Mapping[str, bytes]) -> Iterator[Solution]:
    """These files as the module `solution`, in this process: for our own code only. Nothing of it stays imported."""

    def loaded() -> dict[str, Any]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "solution"}

    modules, path, cached = loaded(), list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        with tempfile.TemporaryDirectory() as directory:
            yield load_solution(write(files, None, Path(directory)))
    finally:
        sys.dont_write_bytecode = cached
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(modules)
        sys.path[:] = path
        sys.path_importer_cache.clear()


# ---- asked in this process: what is trusted needs no jail, and is asked far faster without -------------------


@contextmanager
def _random_numbers_of_a_child() -> Iterator[None]:
    """Those of every process of the jail, whichever tests ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def outcomes(files: Mapping[str, bytes], cases: Sequence[Case]) -> dict[str, Outcome]:
    """What is made of each case of a task, by the case's name."""
    return answered(files, cases).named()


def answered(files: Mapping[str, bytes], cases: Sequence[Case]) -> AnswerSheet:
    """The answers to the cases of a task; second halves are asked of a fresh import."""
    sheet = AnswerSheet(cases)
    module = module_of(cases[0].call)
    if trouble := import_trouble(files, module, installed):
        sheet.not_imported = told(module, trouble)
        sheet.fill(Answer(Status.RAISED))
        return sheet
    with _random_numbers_of_a_child(), imported(files):
        halves = sheet.add(sheet.calls, [run_call(LazySolution(), call) for call in sheet.calls])
    with _random_numbers_of_a_child(), imported(files):
        sheet.add_second(halves, [run_call(LazySolution(), half.call) for half in halves])
    return sheet


class OpenJail:
    """Looks like `autograder.jail.Jail` to the grader, and runs everything in this process."""

    tier = "D"

    def child(self, files: Mapping[str, bytes], **options: object) -> "OpenChild":
        return OpenChild(files)


class OpenChild:
    alive, output, stopped_by, seconds = True, "", "", 0.0

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(imported(files))

    def ask(self, calls: Sequence[Call], seconds: float) -> list[Answer]:
        return [run_call(LazySolution(), call) for call in calls]

    def close(self) -> None:
        self.stack.close()


@cache
def rubric() -> Rubric:
    """The grader's, with fewer images: 300 tell 74 % from 65 % three standard errors apart."""
    whole = load_rubric()
    fewer = [replace(task, parameters={**task.parameters, "images": 300}) for task in whole.tasks]
    tasks = tuple(less if task.check == "accuracy" else task for task, less in zip(whole.tasks, fewer, strict=True))
    return Rubric(tasks, f"{whole.digest}, 300 images", whole.path)


@cache
def _last_tasks() -> Rubric:
    """Accuracy and size alone."""
    tasks = tuple(task for task in rubric().tasks if not task.has_cases)
    return Rubric(tasks, f"{rubric().digest}, the last tasks", rubric().path)


def last_grades(submission: Submission) -> tuple[TaskGrade, ...]:
    """What the network that is handed in earns."""
    return grade_submission(submission, _last_tasks(), HIDDEN, OpenJail()).tasks  # type: ignore[arg-type]


# ---- weights -----------------------------------------------------------------------------------------------

State = dict[str, Tensor]


@cache
def _reference() -> tuple[State, Callable[..., State]]:
    """The trained weights, decompressed, and the reference's `compress`."""
    with imported(reference_files()) as solution:
        quantization = solution.quantization
        return quantization.decompress(safetensors.torch.load(reference_weights())), quantization.compress


def _packed(change: Callable[[State], State], bits: int = 8) -> bytes:
    state, compress = _reference()
    return safetensors.torch.save(compress(change(dict(state)), bits))


def padded(size: int) -> bytes:
    """The reference's weights in a file of exactly this size, filled up with spaces in its header."""
    data = reference_weights()
    header = int.from_bytes(data[:8], "little")
    missing = size - len(data)
    return (header + missing).to_bytes(8, "little") + data[8 : 8 + header] + b" " * missing + data[8 + header :]


def _untrained(state: State) -> State:
    torch.manual_seed(0)
    return {name: torch.randn_like(value) * 0.05 if "weight" in name else value for name, value in state.items()}


def _fresh_statistics(state: State) -> State:
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var")):
            state[name] = torch.full_like(value, float(name.endswith("var")))
    return state


def _alphabetical_classes(state: State) -> State:
    order = torch.tensor(sorted(range(11), key=str))
    return {name: value[order] if ".fc." in name else value for name, value in state.items()}


def _pickled() -> bytes:
    with tempfile.TemporaryFile() as file:
        torch.save(_reference()[0], file)
        file.seek(0)
        return file.read()


WEIGHTS: dict[str, Callable[[], bytes | None]] = {
    "reference": reference_weights,
    "none": lambda: None,
    "empty": lambda: b"",
    "exactly_the_limit": lambda: padded(300_000),
    "one_byte_over": lambda: padded(300_001),
    "float32": lambda: safetensors.torch.save(_reference()[0]),
    "float16": lambda: safetensors.torch.save(
        {name: value.half() if value.is_floating_point() else value for name, value in _reference()[0].items()}
    ),
    "pickled": _pickled,
    "cut_off": lambda: reference_weights()[:-1000],
    "one_tensor_short": lambda: _packed(lambda state: {k: v for k, v in state.items() if not k.endswith("fc.bias")}),
    "wrapped_names": lambda: _packed(lambda state: {f"module.{name}": value for name, value in state.items()}),
    "two_bits": lambda: _packed(lambda state: state, bits=2),
    "untrained": lambda: _packed(_untrained),
    "fresh_statistics": lambda: _packed(_fresh_statistics),
    "alphabetical_classes": lambda: _packed(_alphabetical_classes),
}


def own_weights(files: Mapping[str, bytes]) -> bytes:
    """The trained weights, saved by this submission's own compress under its own final model's names.

    What its network has beside the reference's (a normalisation's buffers) is saved as built.
    """
    state = _reference()[0]
    with imported(files) as solution:
        own = dict(solution.models.final_model().state_dict())
        for name, value in state.items():
            (target,) = [each for each in own if each.endswith(name.removeprefix("1."))]
            own[target] = value
        return safetensors.torch.save(solution.quantization.compress(own))


# ---- the corpora -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One submission of a corpus. task: the one it is about, "" for all; mistakes: the mistakes that it makes; says:
    what stands in every diagnosis of it."""

    id: str
    task: str
    about: str  # what is wrong, or what is different
    mistakes: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=False)
    says: tuple[str, ...] = ()
    weights_by: str = "reference"

    def weights(self) -> bytes | None:
        return own_weights(self.files) if self.weights_by == "own" else WEIGHTS[self.weights_by]()

    def submission(self) -> Submission:
        weights = self.weights()
        parts = [*self.files.items(), ("", weights or b"")]
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()
        return Submission(self.id, dict(self.files), weights, None, digest)


def _changed(right: str, was: str | list[str], now: str | list[str], place: str) -> str:
    pairs = [(was, now)] if isinstance(was, str) and isinstance(now, str) else list(zip(was, now, strict=True))
    for old, new in pairs:
        if right.count(old) != 1:
            raise AssertionError(f"{place}: {old!r} is {right.count(old)} times in the right code, not once")
        right = right.replace(old, new)
    return right


def _several(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@cache
def mutants() -> tuple[Entry, ...]:
    """The wrong solutions of all tasks."""
    entries = []
    for path in sorted((HERE / "answers").glob("*/wrong-*.toml"), key=lambda path: path.stem):
        table = tomllib.loads(path.read_text())
        for raw in table["mutant"]:
            task = path.stem.split("-")[1]
            name = f"{task}-{raw['name']}"
            unknown = set(raw) - {"name", "wrong", "mistake", "says", "was", "now", "code", "bytes", "weights"}
            assert not unknown, f"{name}: {unknown}"
            assert ("code" in raw) + ("was" in raw) <= 1, f"{name}: either code or was and now"
            code = raw.get("code", table["right"])
            if "was" in raw:
                code = _changed(code, raw["was"], raw["now"], name)
            code = code.replace("{padding}", "x" * 100_000)
            mistakes, says = (_several(raw.get(key, [])) for key in ("mistake", "says"))
            weights = raw.get("weights", "reference")
            files = with_code({table["module"]: code})
            for change in raw.get("bytes", []):
                files = BYTES[change](files)
            entries.append(Entry(name, task, raw["wrong"], mistakes, files, says, weights))
    return tuple(entries)


@cache
def unseen() -> tuple[tuple[Entry, str], ...]:
    """Wrong solutions that were written before anybody looked at what is said of them, and whether that is enough."""
    entries = []
    for raw in tomllib.loads((HERE / "answers" / "unseen.toml").read_text())["mutant"]:
        if "append" in raw:
            name = f"solution/{raw['module']}"
            files = {**reference_files(), name: reference_files()[name] + raw["append"].encode()}
        else:
            files = with_code({raw["module"]: raw["code"]})
        name = f"{raw['task']}-{raw['name']}"
        entries.append((Entry(name, raw["task"], raw["wrong"], (), files), raw.get("enough", "")))
    return tuple(entries)


@cache
def alternatives() -> tuple[Entry, ...]:
    """The right solutions, and the `right` code that the wrong ones of each task are made from."""
    entries = []
    for path in sorted((HERE / "answers").glob("*/wrong-*.toml"), key=lambda path: path.stem):
        table = tomllib.loads(path.read_text())
        about, files = "what the mutants of this task are made from", with_code({table["module"]: table["right"]})
        weights = "own" if table["module"] == "quantization.py" else "reference"
        name = path.stem.removeprefix("wrong-")
        entries.append(Entry(f"{name}-right", name.partition("-")[0], about, (), files, weights_by=weights))
    for path in sorted((HERE / "answers").glob("**/right.toml")):
        for raw in tomllib.loads(path.read_text())["alternative"]:
            name = f"{path.parent.name}-{raw['name']}"
            unknown = set(raw) - {"name", "different", "code", "bytes", "weights"}
            assert not unknown, f"{name}: {unknown}"
            files = with_code(raw.get("code", {}))
            for change in raw.get("bytes", []):
                files = BYTES[change](files)
            entries.append(Entry(name, "", raw["different"], (), files, weights_by=raw.get("weights", "reference")))
    return tuple(entries)


def one_in_many(entries: Sequence[Entry]) -> list[Any]:
    """The entries for pytest's parametrize; all but one in EVERY are slow, and those that look at many images."""
    return [
        pytest.param(entry, id=entry.id, marks=pytest.mark.slow if number % EVERY or entry.task == "5.2" else ())
        for number, entry in enumerate(entries)
    ]


def _largest_source(files: Files, size: int = 100_000) -> Files:
    """Filled up to this size, names included."""
    comment = b"\n#" + b"x" * (size - sum(len(name.encode()) + len(data) for name, data in files.items()) - 2)
    return files | {"solution/models.py": files["solution/models.py"] + comment}


def _hidden_in_names(files: Files, name: str) -> Files:
    """194 empty modules of this name, in which {} is a number, beside source that leaves no room for 28 KB more."""
    return _largest_source(files, 80_000) | {f"solution/{name.format(number)}.py": b"" for number in range(194)}


# What editors and systems do to all files of a submission.
BYTES: dict[str, Callable[[Files], Files]] = {
    "windows_lines": lambda files: {name: data.replace(b"\n", b"\r\n") for name, data in files.items()},
    "byte_order_mark": lambda files: {name: b"\xef\xbb\xbf" + data for name, data in files.items()},
    "largest_source": _largest_source,
    "one_byte_over": lambda files: _largest_source(files, 100_001),
    "names_of_modules": lambda files: _hidden_in_names(files, "{:03d}" + "m" * 97),
    "names_of_folders": lambda files: _hidden_in_names(files, "a" * 60 + "/{:03d}" + "f" * 57 + "/__init__"),
    "names_in_wide_letters": lambda files: _hidden_in_names(files, "{:03d}" + "\U00020000" * 40),  # 4 bytes each
}
