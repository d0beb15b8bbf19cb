"""Files are whole or absent, and what is wrong with one is said in a line."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from hw7 import HW7Error
from hw7.support.files import (
    alone_in,
    load_checkpoint,
    load_weights,
    read_json,
    save_checkpoint,
    save_weights,
    write_file,
    write_json,
)


def test_write_file_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_file(path, b"first")
    write_file(path, memoryview(b"second"))
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "results.json"
    write_file(path, b"old")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(HW7Error) as caught:
        write_file(path, bytes(2_000_000))
    for part in (str(path), os.strerror(number), "2.0 MB", "name another folder"):
        assert part in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]  # nothing half-written beside it
    monkeypatch.undo()
    write_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, data: bytes) -> None:
        assert isinstance(data, bytes), "a view of a BytesIO crashes Python 3.12.1 after this"
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1})
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(HW7Error, match=r"cannot write .*No space left.* needs 0\.4 MB.*Nothing is half-written"):
        save_checkpoint(path, {"epoch": 2, "w": torch.zeros(100_000)})
    assert load_checkpoint(path, "cpu") == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_folder_is_one_process_at_a_time(tmp_path: Path) -> None:
    """This one may ask again. Another thread stands for another process: it shares nothing of the lock."""

    def ask() -> None:
        with alone_in(tmp_path / "out"):
            pass

    with ThreadPoolExecutor(1) as thread:
        with alone_in(tmp_path / "out"):
            with alone_in(tmp_path / "out"):
                pass
            with pytest.raises(HW7Error, match="another hw7 is at work in"):
                thread.submit(ask).result()
            (tmp_path / "out" / "results.json").touch()
        thread.submit(ask).result()
    assert (tmp_path / "out" / "results.json").exists()


def test_a_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for name in ("own", "new"):
        with pytest.raises(HW7Error, match="no data"), alone_in(tmp_path / name):
            raise HW7Error("no data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["own"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    write_file(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_what_killed_runs_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young, other = tmp_path / ".a.1.part", tmp_path / ".b.2.part", tmp_path / "c.part"
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    write_file(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.2.part", "c.part", "file"]


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(HW7Error, match=r"cannot write .*results\.json"):
        write_file(tmp_path / "out" / "results.json", b"{}")


def test_json_keeps_every_digit_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    value = {"third": 1 / 3, "name": "Crème brûlée", "none": None}
    write_json(path, value)
    assert read_json(path) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == value


def test_weights_come_back_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = {"w": torch.arange(6.0).reshape(2, 3).t().requires_grad_(), "count": torch.tensor(7)}
    save_weights(path, state, {"network": "teacher"})
    tensors, metadata = load_weights(path)
    assert metadata == {"network": "teacher"}
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 3, "model": {"w": torch.arange(3)}, "loss": 1 / 3})
    checkpoint = load_checkpoint(path, "cpu")
    assert (checkpoint["epoch"], checkpoint["loss"]) == (3, 1 / 3)
    assert checkpoint["model"]["w"].tolist() == [0, 1, 2]


def read_checkpoint(path: Path) -> object:
    return load_checkpoint(path, "cpu")


SAVERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "weights.safetensors": (lambda path: save_weights(path, {"w": torch.rand(100)}, {}), load_weights),
    "checkpoint.pt": (lambda path: save_checkpoint(path, {"w": torch.rand(100)}), read_checkpoint),
    "results.json": (lambda path: write_json(path, {"value": [1.5] * 100}), read_json),
}


@pytest.mark.parametrize("damage", ["cut off", "empty", "something else", "a folder", "missing"])
@pytest.mark.parametrize("name", SAVERS)
def test_a_broken_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    save, load = SAVERS[name]
    path = tmp_path / name
    save(path)
    whole = path.read_bytes()
    path.unlink()
    match damage:
        case "cut off":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "something else":
            path.write_bytes(b"\x89PNG\r\n\x1a\n" * 20)
        case "a folder":
            path.mkdir()
    with pytest.raises(HW7Error) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save({"w": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(HW7Error, match="cannot be read"):
        load_checkpoint(tmp_path / "checkpoint.pt", "cpu")
    assert not (tmp_path / "sprung").exists()
