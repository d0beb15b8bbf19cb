"""Hostile submissions: the corpus `attacks/`, and one real run that grades them all among honest students.

An attack is the reference solution (or the stubs) with `code` in one of its modules. Where that code defines
`attack()` only, it runs inside `kd_loss`, which then answers nothing of use. Attacks say when they got somewhere
(attacks/tools.py), and look for a canary that stands in the grader's environment and files.
"""

import contextlib
import ctypes
import os
import pickle
import re
import secrets
import shutil
import socket
import stat
import struct
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from submissions import reference_files, reference_weights, with_code, write
from tabulate import tabulate

from autograder.batch import Settings, run
from autograder.grades import Grade
from autograder.jail import Tier
from autograder.rubric import Rubric, load_rubric
from autograder.tasks.table import cases

HERE = Path(__file__).parent / "attacks"
HONEST = ("a-honest", "m-honest", "z-honest")  # before, among and after the attacks
LEFT_BEHIND = "hw7-attack"  # how everything is named that an attack leaves behind, and what a pickle would write
UNPICKLED = f"{LEFT_BEHIND}-unpickled"
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue")
TASKS = ("1.1", "2.1", "3.2", "4.1", "4.2")  # at least one a module; the others would only take longer
SIZES = ("5.1", "5.2")
SECONDS = 10.0  # for each task, the rubric's own: the honest submissions have it, too
IMAGES = 100

WRAPPER = """
from solution import tools
from solution.tools import *

def kd_loss(student_logits, teacher_logits, labels, temperature=20.0, alpha=0.5):
    tools.turn = int(student_logits.double().abs().sum().item() * 1000)
    attack()
    return student_logits.sum() * 0
"""


# ---- weights and archives that no student should hand in -------------------------------------------------------


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, (f"touch /tmp/{UNPICKLED}",))


def _torch_bomb() -> bytes:
    buffer = BytesIO()
    torch.save({"w": _Bomb()}, buffer)
    return buffer.getvalue()


def _safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _entry(name: bytes, shape: bytes) -> bytes:
    return b'"%s":{"dtype":"U8","shape":[%s],"data_offsets":[0,9]}' % (name, shape)


WEIGHTS: dict[str, Callable[[], bytes]] = {
    "reference": reference_weights,
    "pickle_bomb": lambda: pickle.dumps(_Bomb()),
    "torch_bomb": _torch_bomb,
    "large": lambda: safetensors.torch.save({"w": torch.zeros(11_000_000)}),
    "endless_header": lambda: struct.pack("<Q", 1 << 63) + b"{}",
    "nested_header": lambda: _safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "huge_shape": lambda: _safetensors(b"{" + _entry(b"w", b"%d,%d" % (1 << 40, 1 << 40)) + b"}", bytes(9)),
    "overlapping": lambda: _safetensors(
        b"{" + b",".join(_entry(b"%d" % n, b"9") for n in range(4000)) + b"}", bytes(9)
    ),
}


def _linked_weights(folder: Path, target: Path) -> None:
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to(target / "weights.safetensors")


def _linked_source(folder: Path, target: Path) -> None:
    (folder / "solution" / "losses.py").unlink()
    (folder / "solution" / "losses.py").symlink_to(target / "solution" / "losses.py")


def _hard_linked_source(folder: Path, target: Path) -> None:
    """To a copy: the honest student's own file would have two names."""
    copy = target.parent.parent / "copy.py"
    copy.write_bytes((target / "solution" / "losses.py").read_bytes())
    (folder / "solution" / "losses.py").unlink()
    os.link(copy, folder / "solution" / "losses.py")


def _waiting_source(folder: Path, target: Path) -> None:
    (folder / "solution" / "losses.py").unlink()
    os.mkfifo(folder / "solution" / "losses.py")
    (folder / "weights.safetensors").unlink()
    here = os.getcwd()
    os.chdir(folder)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("weights.safetensors")
    finally:
        os.chdir(here)


def _to_zip(folder: Path, more: Sequence[tuple[zipfile.ZipInfo | str, bytes]], leave_out: str = "") -> None:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name != leave_out:
                file.write(path, name)
        for info, data in more:
            file.writestr(info, data)
    shutil.rmtree(folder)


def _zip_slip(folder: Path, target: Path) -> None:
    source = target / "solution" / "losses.py"
    names = [str(source), f"../{target.name}/solution/losses.py", f"..\\{target.name}\\solution\\losses.py"]
    _to_zip(folder, [(name, b"raise SystemExit") for name in names])


def _zip_bomb(folder: Path, target: Path) -> None:
    inner = BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("again.zip", bytes(300_000_000))
    _to_zip(folder, [(f"{number}.zip", inner.getvalue()) for number in range(8)] + [("data.bin", bytes(300_000_000))])


def _linked_zip(folder: Path, target: Path) -> None:
    link = zipfile.ZipInfo("weights.safetensors")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    _to_zip(folder, [(link, str(target / "weights.safetensors").encode())], "weights.safetensors")


def _colliding(folder: Path, target: Path) -> None:
    _to_zip(folder, [("solution/a.py", b""), ("solution/a.py/b.py", b""), ("solution/losses.py/__init__.py", b"")])


def _colliding_renamed(folder: Path, target: Path) -> None:
    _to_zip(folder, [("solution/x.PY", b""), ("solution/x.py/b.py", b""), ("solution/PRUNING.PY/b.py", b"")])


def _long_paths(folder: Path, target: Path) -> None:
    names = ["/".join("d" * 90 for _ in range(4)), "\U0001f980" * 90, "n" * 250, "/".join("d" * 100)]
    _to_zip(folder, [(f"solution/{name}.py", b"") for name in names])


def _odd_names(folder: Path, target: Path) -> None:
    for name in (b"\xff\xfe.py", b"\x1b[2J.py", b"\xed\xa0\x80.py", b"a\nb.py", b"a\\b.py"):
        (folder / "solution" / os.fsdecode(name)).write_bytes(b"")


def _endless_points(folder: Path, target: Path) -> None:
    marks = f'{{"grade": true, "solution": true, "grade_id": "question-1", "points": 1{"0" * 400}}}'
    (folder / "hw7.ipynb").write_text(f'{{"cells": [{{"source": "", "metadata": {{"nbgrader": {marks}}}}}]}}')


def _many_lists(folder: Path, target: Path) -> None:
    (folder / "hw7.ipynb").write_bytes(b'{"cells": [' + b"[]," * 10_000_000 + b"[]]}")


def _zips_in_a_zip(folder: Path, target: Path) -> None:
    """The submission is in the first of them, and 60 MB of zeros in each."""
    inner = BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_STORED) as file:
        file.writestr("zeros", bytes(60_000_000))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, path.relative_to(folder).as_posix())
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    more = {f"{number}.zip": inner.getvalue() for number in range(8)} | {"data": os.urandom(3_000_000)}
    _to_zip(folder, list(more.items()))


ARCHIVES: dict[str, Callable[[Path, Path], None]] = {
    "": lambda folder, target: None,
    "linked_weights": _linked_weights,
    "linked_source": _linked_source,
    "hard_linked_source": _hard_linked_source,
    "waiting_source": _waiting_source,
    "zip_slip": _zip_slip,
    "zip_bomb": _zip_bomb,
    "linked_zip": _linked_zip,
    "colliding": _colliding,
    "colliding_renamed": _colliding_renamed,
    "long_paths": _long_paths,
    "odd_names": _odd_names,
    "endless_points": _endless_points,
    "many_lists": _many_lists,
    "zips_in_a_zip": _zips_in_a_zip,
}


# ---- the corpus -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """One hostile submission. loses: the tasks that it must get nothing for; all others count as if it were honest."""

    id: str
    tries: str
    stopped_by: str
    group: str
    files: Mapping[str, bytes] = field(repr=False)
    loses: tuple[str, ...]
    hurts: tuple[str, ...] = ()  # the tasks that it may keep a part of: what is right in them
    verdict: str = ""  # of the tasks that it loses, where there is only one that it can be
    refused: str = ""  # a part of the reason, where it is not graded at all
    weights: str = "reference"
    archive: str = ""
    breaks: bool = False  # its own code comes to an end by an exception, as it must
    quick: bool = False  # one of the few that are tried again and again, and in every tier


FIELDS = {"id", "tries", "stopped_by", "code", "module", "base", "loses", "verdict", "refused", "weights", "archive"}
FIELDS |= {"quick", "files", "constants", "hurts", "breaks"}


@cache
def attacks() -> tuple[Attack, ...]:
    """tests/attacks: the group of an attack is its file's name up to the first "-"."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        for raw in tomllib.loads(path.read_text())["attack"]:
            assert not set(raw) - FIELDS, f"{raw['id']}: {set(raw) - FIELDS}"
            found.append(_attack(path.stem.partition("-")[0], raw))
    return tuple(found)


def _attack(group: str, raw: Mapping[str, Any]) -> Attack:
    code, module = raw.get("code", ""), raw.get("module", "losses.py")
    whole = module == "__init__.py" or "refused" in raw  # then nothing of it can be right
    if "def attack" in code:
        code = WRAPPER + code
    elif code and module != "__init__.py":
        code = "from solution.tools import *\n" + code
    if "constants" in raw:
        code = f"TABLE = {_constants(raw['constants'])!r}\n{code}"
    files = with_code({module: code}) if code else dict(reference_files())
    stubs = raw.get("base") == "stubs"
    if stubs:
        files = {name: data if name == f"solution/{module}" and code else _stub(data) for name, data in files.items()}
        files[f"solution/{module}"] = (_stub(reference_files()[f"solution/{module}"]).decode() + code).encode()
    for name, text in raw.get("files", {}).items():
        files[name] = text.replace("{padding}", "#" * 100_000).encode()
    loses = [*TASKS, *SIZES] if stubs or whole else raw.get("loses", ["2.1"])
    return Attack(
        raw["id"],
        raw["tries"],
        raw["stopped_by"],
        group,
        files,
        tuple(loses),
        tuple(raw.get("hurts", ())),
        raw.get("verdict", ""),
        raw.get("refused", ""),
        raw.get("weights", "reference"),
        raw.get("archive", ""),
        raw.get("breaks", False),
        raw.get("quick", False),
    )


def _stub(source: bytes) -> bytes:
    """What a student gets: each answer inside a function replaced by an exception."""
    answer = re.compile(r"\n    ### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL)
    return answer.sub("\n    raise NotImplementedError", source.decode()).encode()


def _constants(check: str) -> list[tuple[float, float]]:
    """(sum of the student's logits, right loss) of the questions in the public tests."""
    rows = []
    for case in cases("public", check, {}, b"public"):
        student, loss = case.call.inputs.get("student"), case.expected.get("the loss")
        if isinstance(student, torch.Tensor) and isinstance(loss, torch.Tensor):
            rows.append((student.double().sum().item(), loss.item()))
    assert rows
    return rows


# ---- one run of them all ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aftermath:
    """What a run left: grades by student, and everything that should not be there."""

    grades: Mapping[str, Grade]
    canary: str
    left: tuple[str, ...]
    seconds: float


def rubric() -> Rubric:
    """One task a module, with little time and few images."""
    tasks = []
    for task in load_rubric().tasks:
        if task.id in (*TASKS, *SIZES):
            parameters = {name: IMAGES if name == "images" else value for name, value in task.parameters.items()}
            tasks.append(replace(task, seconds=SECONDS, parameters=parameters))
    return Rubric(tuple(tasks), "attacks", load_rubric().path)


def graded(chosen: Sequence[Attack], tier: Tier, jobs: int = 2) -> Aftermath:
    """Grades these attacks and the honest students in one run, in a place that everybody on this machine may read."""
    canary = f"canary-{secrets.token_hex(8)}"
    world = Path(tempfile.mkdtemp(prefix="hw7-hostile-", dir="/var/tmp"))
    world.chmod(0o755)
    mark = f"{LEFT_BEHIND}-{secrets.token_hex(4)}"  # tests of other processes may be at it, too
    before = set(_descendants()), set(_system_v())
    os.environ["HW7_CANARY"] = canary
    try:
        secret = _lay_out(world, chosen, canary, mark)
        kept = {path: (path.read_bytes(), path.stat().st_mode) for path in secret if path.name != "journal.jsonl"}
        start = time.perf_counter()
        result = run(world / "submissions", world / "out", Settings(rubric(), b"hostile", tier=tier), jobs=jobs)
        seconds = time.perf_counter() - start
        left = [f"graded by nobody: {student}" for student in (*result.missing, *result.failures)]
        for path, (data, mode) in kept.items():
            if not path.is_file() or path.read_bytes() != data or path.stat().st_mode != mode:
                left.append(f"changed: {path.name}")
        left += _still_there(lambda: set(_descendants()) - before[0])
        left += [*_litter(world, mark), *sorted(set(_system_v()) - before[1])]
    finally:
        del os.environ["HW7_CANARY"]
        shutil.rmtree(world, ignore_errors=True)
    return Aftermath({grade.student: grade for grade in result.grades}, canary, tuple(left), seconds)


@contextlib.contextmanager
def laid_out(chosen: Sequence[Attack]) -> Iterator[Path]:
    """The folder of these attacks and the honest students, for whoever grades them in another way; then removed."""
    world = Path(tempfile.mkdtemp(prefix="hw7-hostile-", dir="/var/tmp"))
    try:
        _lay_out(world, chosen, "canary-", f"{LEFT_BEHIND}-{secrets.token_hex(4)}")
        yield world / "submissions"
    finally:
        shutil.rmtree(world, ignore_errors=True)


def _lay_out(world: Path, chosen: Sequence[Attack], canary: str, mark: str) -> list[Path]:
    """Writes all submissions; returns the files that nobody may see."""
    out, submissions = world / "out", world / "submissions"
    out.mkdir()
    secret = [out / name for name in ("journal.jsonl", "hidden-seed", "notes.txt")]
    secret.append(submissions / HONEST[0] / "solution" / "losses.py")
    for path in secret[:3]:
        path.write_text("" if path.name == "journal.jsonl" else f"{canary}\n")
    for student in HONEST:
        files = dict(reference_files())
        files["solution/losses.py"] += f"# {canary}\n".encode()
        write(files, reference_weights(), submissions / student)
    more = f"SECRETS = {[str(path) for path in secret]!r}\nMARK = {mark!r}\n"
    for attack in chosen:
        folder = write(attack.files, WEIGHTS[attack.weights](), submissions / attack.id)
        (folder / "solution" / "tools.py").write_text((HERE / "tools.py").read_text() + more)
        ARCHIVES[attack.archive](folder, submissions / HONEST[0])
    return secret


def _descendants() -> Iterator[str]:
    """Processes that came from this one, those that were orphaned since too (see `adopt_orphans`)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                if "resource_tracker" not in words:  # Python's own, for as long as this process lives
                    yield f"process {pid} ({words.strip()[:200]})"


def adopt_orphans() -> None:
    """From now on, processes whose parents died become this one's children, not init's: none is lost sight of."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _still_there(look: Callable[[], set[str]]) -> list[str]:
    """What is still there after a minute: who was just killed may take a moment, and on a busy machine more."""
    deadline = time.monotonic() + 60
    while (found := look()) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.1)
    return sorted(found)


def _reap() -> None:
    try:
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        pass


def _litter(world: Path, mark: str) -> Iterator[str]:
    """Files and folders that an attack left. Folder by folder: `os.walk` calls itself, and attacks nest deeply."""
    waiting = [*PLACES, str(Path.home()), os.getcwd()]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith((mark, UNPICKLED)):
                    yield entry.path
                if entry.is_dir(follow_symlinks=False) and folder.startswith(PLACES) and folder != str(world):
                    waiting.append(entry.path)


def _system_v() -> Iterator[str]:
    for kind in ("shm", "sem", "msg"):
        try:
            lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
        except OSError:
            continue
        yield from (f"{kind} {line}" for line in lines if line.split()[0] == str(0x7777))


# ---- the report -------------------------------------------------------------------------------------------------


ENDED = r"\[((?:deadline|signal|exit code|flood|scratch folder|the jail)[^\[\]]*)\]"


def seen(grade: Grade) -> str:
    """What the grader noticed of an attack: verdicts, and how its processes ended."""
    if grade.problem:
        return "refused at intake"
    verdicts = sorted({task.verdict.value for task in grade.tasks if task.points < task.out_of})
    notes = " ".join(part.outcome.note for task in grade.tasks for part in task.parts)
    ends = {re.sub(r" [\d.]+(e-\d+)? s", "", end) for end in re.findall(ENDED, notes)}  # not how much time was left
    one_of_each = {end.partition(":")[0]: end for end in sorted(ends, reverse=True)}  # whatever the number of bytes
    return ", ".join(verdicts) + (f" ({'; '.join(sorted(one_of_each.values()))})" if ends else "")


def report(aftermath: Aftermath, tier: Tier, others: Sequence[Tier] = ()) -> str:
    """docs/results/attacks.md. others: the tiers in which the same came out."""
    again = f", and once more in {' and '.join(f'tier {other}' for other in others)}" if others else ""
    text = f"""\
# Attacks, and what stopped them

{len(attacks())} hostile submissions (`tests/attacks/`) and {len(HONEST)} honest ones, graded in one run of two workers,
in tier {tier}{again}. No attack earned a point that was not its own, saw the canary or said
that it had got through; the honest students' grades were all the same; no process and no file was left behind.
`python tests/jail/test_attacks.py` writes this page.

*Loses*: the tasks that it is about, which got nothing; all its other tasks kept their points. *Seen*: the verdicts, and
how its processes ended, where they were ended, in tier {tier}.

"""
    rows = []
    for attack in attacks():
        loses = (
            "all"
            if set(attack.loses) == {*TASKS, *SIZES}
            else ", ".join([*attack.loses, *(f"some of {task}" for task in attack.hurts)]) or "nothing"
        )
        rows.append([attack.id, attack.tries, attack.stopped_by, loses, seen(aftermath.grades[attack.id])])
    table = tabulate(rows, ["attack", "tries", "stopped by", "loses", "seen"], "github", disable_numparse=True)
    return text + re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", table)) + "\n"
