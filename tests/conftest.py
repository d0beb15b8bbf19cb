"""What every test may lean on: torchvision that imports, one thread count, and no cache of the machine's owner."""

import pytest

import hw7.vision  # noqa: F401  (before any test imports torchvision)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
