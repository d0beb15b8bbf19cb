"""The library views: a child of the accuracy task can import no data generator, whatever else would hide it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jailed import SECONDS, SLOW_B, SLOW_C, inside, jail_of, linux, question, said, submission

import hw7
from autograder.jail import Jail, launch

pytestmark = linux

LIBRARY = Path(hw7.__file__).parent


def names(*patterns: str) -> set[str]:
    """The modules of these files of the library."""
    paths = (path.relative_to(LIBRARY.parent) for pattern in patterns for path in LIBRARY.glob(pattern))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}


MINIMAL = names(*launch.VIEWS["minimal"])
OTHERS = sorted(names("**/*.py") - MINIMAL)
PACKAGES = {"hw7", "hw7.checks", "hw7.checks.calls", "hw7.support"}  # those that the fork server has loaded
LOOK = f"""
import importlib, types

def loaded():
    gc.unfreeze()
    modules = [thing for thing in gc.get_objects() if isinstance(thing, types.ModuleType)]
    names = {{module.__name__ for module in modules}} | set(sys.modules)
    return {{name for name in names if name.partition('.')[0] in ('hw7', 'autograder', 'reference_solutions')}}

def imported():
    found = []
    for name in {OTHERS!r}:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name.startswith('hw7'):
                continue
        except BaseException:
            pass
        found.append(name)
    return found

def packages():
    return {{name: sys.modules[name].__path__[0] for name in loaded() if hasattr(sys.modules[name], '__path__')}}
"""
ASK = """
result = dict(loaded=loaded(), packages=packages(), imported=imported())
for name in loaded():
    sys.modules.pop(name, None)
result['imported_anew'] = imported()
"""


def seen(jail: Jail, kept: str = "") -> dict[str, Any]:
    """What a child of the minimal view has, and can have."""
    with jail.child({**submission(ASK, LOOK), "kept": kept.encode()}, library="minimal") as child:
        found = said(child.ask([question()], SECONDS)[0])
    assert isinstance(found, dict)
    found["elsewhere"] = {name for name, path in found["packages"].items() if "/minimal/hw7" not in path}
    return found


def test_what_the_minimal_view_is() -> None:
    assert PACKAGES < MINIMAL
    assert len(OTHERS) > 40
    for name in MINIMAL:
        assert name.split(".")[1:2] in ([], ["models"], ["support"], ["checks"]), name
    for secret in ("hw7.data.plates.render", "hw7.report.ledger", "hw7.solution", "hw7.training.loop", "hw7.measure"):
        assert secret in OTHERS


def check(found: dict[str, Any]) -> None:
    """Nothing else is loaded, or can be imported: neither at once nor after dropping what is loaded."""
    assert found["loaded"] <= MINIMAL
    assert set(found["packages"]) == PACKAGES
    assert (found["elsewhere"], found["imported"], found["imported_anew"]) == (set(), [], [])


@pytest.mark.parametrize("tier", ["A", SLOW_B, SLOW_C, "D"])
def test_a_child_of_the_minimal_view_has_nothing_else(tier: launch.Tier) -> None:
    check(seen(jail_of(tier)))


@pytest.fixture(scope="module", params=["A", SLOW_B, SLOW_C, pytest.param("D", marks=pytest.mark.slow)])
def own_jail(request: pytest.FixtureRequest) -> Iterator[Jail]:
    with Jail(jail_of(request.param).tier) as jail:
        yield jail


@pytest.fixture
def forgetful(own_jail: Jail, monkeypatch: pytest.MonkeyPatch) -> Jail:
    """A jail whose children re-point only those packages that a file of the submission names.

    For one test at a time: other jails start zygotes between two of these.
    """
    staged = launch.stage

    def changed(folder: Path) -> None:
        staged(folder)
        path = folder / "code" / "hw7_jail" / "library.py"
        code, every = path.read_text(), "for name in packages:"
        assert code.count(every) == 1
        named = "for name in open(submission + '/kept').read().split() if submission else ():"
        path.chmod(0o644)
        path.write_text(code.replace(every, named))

    monkeypatch.setattr(launch, "stage", changed)
    return own_jail


FORGOTTEN = {
    # what is not re-pointed, and what can be imported then where no sandbox hides it
    "all": (PACKAGES, "hw7.data.plates."),
    "all but hw7": (PACKAGES - {"hw7"}, "hw7.checks."),
    "all but hw7 and hw7.checks": (PACKAGES - {"hw7", "hw7.checks"}, "hw7.support."),
    "hw7": ({"hw7"}, "hw7.data.plates."),
    "hw7.checks": ({"hw7.checks"}, "hw7.checks."),
    "hw7.support": ({"hw7.support"}, "hw7.support."),
    "hw7.checks.calls": ({"hw7.checks.calls"}, ""),  # it is whole in both views
}


@pytest.mark.parametrize(("forgotten", "reached"), FORGOTTEN.values(), ids=FORGOTTEN)
def test_no_package_may_be_forgotten(forgotten: set[str], reached: str, forgetful: Jail) -> None:
    """The test above fails where one is: in each tier by where imports look, in tier D by what they find."""
    found = seen(forgetful, " ".join(PACKAGES - forgotten))
    with pytest.raises(AssertionError):
        check(found)
    assert found["elsewhere"] == forgotten
    finds = forgetful.tier == "D" and reached
    assert any(name.startswith(reached) for name in found["imported"]) if finds else found["imported"] == []


def test_the_library_it_sees(each_jail: Jail) -> None:
    look = """
        import hw7
        result = []
        for name in ('models', 'data', 'data.plates', 'report.ledger'):
            try:
                __import__('hw7.' + name)
                result.append(name)
            except ImportError:
                pass
        for view in ('full', 'minimal'):
            folder = os.path.join(os.path.dirname(os.path.dirname(hw7.__path__[0])), view, 'hw7')
            try:
                open(os.path.join(folder, 'measure.py')).close()
                result.append(view)
            except OSError:
                pass
    """
    assert inside(each_jail, look) == ["models", "data", "data.plates", "report.ledger", "full"]
    assert inside(each_jail, look, library="minimal") == ["models"]


def test_the_staged_code_needs_nothing_that_is_not_staged() -> None:
    """It imports itself, and of ours beside that only what every child may have."""
    for name in launch.CODE:
        tree = ast.parse(Path(launch.__file__).with_name(f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, name
                own = [node.module] if node.module else [alias.name for alias in node.names]
                assert set(own) <= set(launch.CODE), name
            elif isinstance(node, ast.ImportFrom | ast.Import):
                found = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                ours = {each for each in found if each.partition(".")[0] in ("hw7", "autograder")}
                assert ours <= MINIMAL, name
