"""One loader for several jails: torch is loaded once, and each jail is as apart from the others as with its own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from jailed import ECHO, SECONDS, SLOW_C, linux, question, said, submission, works
from processes import living, until

from autograder.jail import Jail, Loader, Tier, best_tier

pytestmark = linux


@pytest.fixture(params=["A", SLOW_C])
def loader(request: pytest.FixtureRequest) -> Iterator[Loader]:
    tier: Tier = request.param
    if (reason := best_tier()[1][tier]) != "works":
        pytest.skip(f"tier {tier} does not work here: {reason}")
    loader = Loader(tier)
    yield loader
    loader.close()
    assert not os.path.exists(loader.stage)
    assert loader.pid not in living()


@pytest.fixture
def pair(loader: Loader) -> Iterator[tuple[Jail, Jail]]:
    with Jail(loader.tier, loader=loader) as one, Jail(loader.tier, loader=loader) as two:
        yield one, two


def test_both_zygotes_come_from_it(pair: tuple[Jail, Jail], loader: Loader) -> None:
    for jail in pair:
        works(jail)
        assert jail._zygote is not None
        assert living()[jail._zygote.pid] == loader.pid
        assert jail._own is None


LEAVE = """
    open('kept', 'w').write('of the first')
    result = [os.getuid(), os.getpid(), os.getcwd()]
"""


def test_children_side_by_side_do_not_meet(pair: tuple[Jail, Jail], loader: Loader) -> None:
    """Neither in a folder nor in /proc, and where there are uids each has its own."""
    look = """
        def tried(function, *arguments):
            try:
                return function(*arguments)
            except OSError as error:
                return error.errno
        folder, pid = FOLDER, PID
        result = [os.getuid(), os.getpid(), os.listdir('.'), tried(os.listdir, os.path.dirname(folder)),
                  tried(open, '/proc/%d/mem' % pid, 'rb'), tried(os.kill, pid, 0)]
    """
    one, two = pair
    with one.child(submission(LEAVE + "    torch.kept = 'of the first'")) as first:
        uid, pid, folder = said(first.ask([question()], SECONDS)[0])  # type: ignore[misc]
        with two.child(submission(look.replace("FOLDER", repr(folder)).replace("PID", str(pid)))) as second:
            other, its_pid, mine, above, memory, killed = said(second.ask([question()], SECONDS)[0])  # type: ignore[misc]
            assert first.alive
        assert said(first.ask([question()], SECONDS)[0]) == [uid, pid, folder]
    assert mine == []
    assert isinstance(above, int)
    assert isinstance(memory, int)
    if os.geteuid() == 0:
        assert uid != other
    if loader.tier == "A":
        assert pid == its_pid == 1  # each in a namespace of its own, where the other is not
        assert folder == "/scratch"
    else:
        assert isinstance(killed, int)


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_the_end_of_one_is_not_the_others(ended: str, pair: tuple[Jail, Jail]) -> None:
    one, two = pair
    works(one)
    with two.child(submission(ECHO)) as child:
        if ended == "closed":
            one.close()
        else:
            assert one._zygote is not None
            os.kill(one._zygote.pid, signal.SIGKILL)
        assert said(child.ask([question(5.0)], SECONDS)[0]) == 5.0
        works(one)
        assert said(child.ask([question(6.0)], SECONDS)[0]) == 6.0


def test_the_loader_dies(pair: tuple[Jail, Jail], loader: Loader) -> None:
    """What is asked goes on; who needs a new zygote has a loader of its own; nothing of the dead one stays."""
    one, two = pair
    works(one)
    with two.child(submission(ECHO)) as child:
        os.kill(loader.pid, signal.SIGKILL)
        until(lambda: loader.pid not in living())
        assert said(child.ask([question(5.0)], SECONDS)[0]) == 5.0
        one.close()
        works(one)
        assert said(child.ask([question(6.0)], SECONDS)[0]) == 6.0
        assert one._own is not None


def test_a_zygote_ends_with_its_grader_only(loader: Loader, tmp_path: Path) -> None:
    """A worker that is killed: its child and its zygote end, the loader and the others do not."""
    with Jail(loader.tier, loader=loader) as jail:
        works(jail)
        pid = os.fork()
        if pid == 0:  # as a worker, which has the loader's socket in its hands as well
            try:
                other = Jail(loader.tier, loader=loader)
                child = other.child(submission("while True: pass"))
                assert other._zygote is not None
                (tmp_path / "new").write_text(str(other._zygote.pid))
                (tmp_path / "new").rename(tmp_path / "zygote")
                child.ask([question()], 600.0)
            finally:
                os._exit(1)
        until((tmp_path / "zygote").exists)
        zygote = int((tmp_path / "zygote").read_text())
        assert zygote in living()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        until(lambda: zygote not in living())
        works(jail)
