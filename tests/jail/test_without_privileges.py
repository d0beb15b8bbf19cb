"""Without privileges: the tests of the jail again, as a user who may do nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jailed import linux, others_may_read

from hw7.solution import PROJECT

pytestmark = linux

HERE = Path(__file__).parent

AS_NOBODY = """
set -e
prefixes=() kept=()
for prefix in $1; do
    kept+=("$(mktemp -d)"); prefixes+=("$prefix")
    mount --bind "$prefix" "${kept[-1]}"
done
for closed in $2; do mount -t tmpfs -o mode=755 none "$closed"; done
for i in "${!prefixes[@]}"; do
    mkdir -p "${prefixes[i]}"
    mount --move "${kept[i]}" "${prefixes[i]}"
    rmdir "${kept[i]}"
done
shift 2
exec setpriv --reuid 23456 --regid 23456 --clear-groups --inh-caps=-all "$@"
"""


def closed_to_others(path: Path) -> str:
    """The first folder on the way to this one that only its owner may pass."""
    return next((str(each) for each in reversed(path.parents) if not each.stat().st_mode & 0o001), "")


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a user without privileges, in a mount namespace where the interpreter can be reached."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        pytest.skip("needs root, to become somebody else")
    if not others_may_read("A") or not Path(__file__).stat().st_mode & 4:
        pytest.skip("Python, torch or this clone was installed under a strict umask: nobody else may read it")
    environment = {
        "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",  # Jupyter's packages need to know of one
    }  # fmt: skip
    ways = {prefix: closed_to_others(Path(prefix)) for prefix in (sys.base_prefix, sys.prefix)}
    ways = {prefix: closed for prefix, closed in ways.items() if closed}
    places = " ".join(ways), " ".join(dict.fromkeys(ways.values()))
    words = ["unshare", "--mount", "bash", "-c", AS_NOBODY, "as_nobody", *places, *command]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=PROJECT)
    if "unshare failed" in done.stderr or ("Permission denied" in done.stderr and not done.stdout):
        pytest.skip(f"cannot be done here: {done.stderr.strip()[:200]}")
    return done


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_of_this_without_privileges() -> None:
    """Every file that asks jailed processes: tiers A and B (in a user namespace) and C (no uid of its own)."""
    files = [str(path) for path in sorted(HERE.glob("test_*.py")) if "\nfrom jailed import" in path.read_text()]
    assert len(files) >= 7
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    done = as_nobody(*words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


@pytest.mark.slow
def test_tiers_without_privileges() -> None:
    code = "import json; from autograder.jail import best_tier; print(json.dumps(best_tier()))"
    done = as_nobody(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    best, reasons = json.loads(done.stdout)
    assert reasons["C"] == "works"
    assert best in "AC"
