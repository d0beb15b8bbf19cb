"""Atomic writes: a file is written beside its place, then moved there, so that a kill leaves nothing half-written.

Torch is imported where tensors are written: what writes only JSON and pages need not wait for it.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import safetensors

from hw7 import HW7Error
from hw7.support.words import reason

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNFINISHED = ".part"  # the end of a file's name while it is being written


@contextmanager
def replacing(path: Path, size: int) -> Iterator[Path]:
    """Yields a path to write `size` bytes to, and moves what was written to `path` when the block ends without error.

    Raises HW7Error where the disk is full or may not be written to; what stood at `path` before stands there still.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise HW7Error(
            f"cannot write {path}: {reason(error)}. It needs {max(size / 1e6, 0.1):,.1f} MB: make room there or name "
            "another folder, then run the same again. Nothing is half-written."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_place(path: Path, folder: bool = False) -> None:
    """Before long work: raises HW7Error where a file (or a folder) cannot be written there, as far as can be seen."""
    above = next(parent for parent in path.absolute().parents if os.path.exists(parent))  # False where not allowed
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise HW7Error(f"cannot write {path}: {above} is no folder that you can write to")
    if os.path.exists(path) and path.is_dir() != folder:
        raise HW7Error(f"cannot write {path}: it is a {'file' if folder else 'folder'}")


def _remove_leftovers(folder: Path) -> None:
    """What killed runs left unfinished, once nobody can still be writing it."""
    for leftover in folder.glob(f".*{UNFINISHED}"):
        with suppress(FileNotFoundError):  # another run may have been quicker
            if time.time() - leftover.stat().st_mtime > 3600:
                leftover.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other process that asks for the folder has it meanwhile; the thread that has it may ask again.

    A folder that is made here and stays empty is removed in the end. Raises HW7Error where another process has it, or
    where it cannot be written to.
    """
    path, made = folder / ".lock", not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, is_singleton=True).acquire(timeout=0)
    except filelock.Timeout as error:  # an OSError, too
        raise HW7Error(f"another hw7 is at work in {folder}; wait for it, or choose another folder") from error
    except OSError as error:
        raise HW7Error(f"{folder} cannot hold the results: {reason(error)}; choose another folder") from error
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):
                if made and list(folder.iterdir()) == [path]:
                    path.unlink()
                    folder.rmdir()


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Writes the whole file or leaves what was there. Raises HW7Error where that is not possible."""
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: object) -> None:
    """Strict JSON (no NaN), indented, floats to their last digit."""
    write_file(path, (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises HW7Error where the file is not there or is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise HW7Error(f"{path} cannot be read ({reason(error)}); delete it and run the same again") from error


def save_weights(path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, with what is needed to rebuild the network in its metadata."""
    import safetensors.torch

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    write_file(path, safetensors.torch.save(tensors, dict(metadata)))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises HW7Error where it is missing or is none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # A file keeps no order, but load_state_dict needs none.
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError as error:
        raise HW7Error(f"there is no file {path}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise HW7Error(f"{path} is not a whole safetensors file ({reason(error)}); make it again") from error


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """torch.save, whole or absent."""
    import torch

    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    # Not getbuffer(): after a write that failed, Python 3.12.1 crashes where the BytesIO is freed before its buffer.
    write_file(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device | str) -> dict[str, Any]:
    """torch.load, of tensors and plain values only. Raises HW7Error where the file is broken."""
    import torch

    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load raises nearly anything on a file that is none of its own
        raise HW7Error(f"the checkpoint {path} cannot be read ({error}); delete it, and its run starts anew") from error
