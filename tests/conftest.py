"""What every test may lean on: torchvision that imports, one thread, and a cache of the test run's own."""

import os
import signal

import pytest

# Before torch starts its threads: beside other test processes they would wait for each other. For child processes, too.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell starts a background job with SIGINT ignored, which children inherit: Ctrl-C could not be tested there.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hw7.support.torchvision_import  # noqa: E402, F401, I001  (before any test imports torchvision)
from made_up_class import a_class, rubric, settings  # noqa: E402, F401  (fixtures)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
