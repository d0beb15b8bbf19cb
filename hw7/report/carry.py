"""Carrying a reproduction to another machine: what its folder needs to go on, as a zip in a few parts, of limited size.

Small records travel always. Where the rest does not fit, something is given up: `SAVINGS`.
"""

import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from hw7 import HW7Error
from hw7.report.experiments import EXPERIMENTS, with_needs
from hw7.support.files import alone_in, load_checkpoint, load_weights, write_file
from hw7.support.parts import HEAD, read_parts, write_parts
from hw7.support.system import cores
from hw7.support.words import counted

MEGABYTE = 1_000_000
RECORD, NEEDED, CHECKPOINT, SPARE = "record", "needed", "checkpoint", "spare"
EXACTLY, OPTIMIZER, ROUNDED = "exactly", "with its optimizer's memory in bfloat16", "in bfloat16, batch norms exactly"
LEFT_OUT, ANEW = "left out, since nothing needs it any more", "left out: begins anew"
# What is done, in this order and to the largest first, until it fits.
SAVINGS = (
    ((SPARE,), LEFT_OUT),
    ((CHECKPOINT,), OPTIMIZER),
    ((CHECKPOINT, NEEDED), ROUNDED),
    ((CHECKPOINT,), ANEW),
)


@dataclass
class Item:
    """A file of the folder: what it is, and how it travels. name: its path from the folder on."""

    name: str
    path: Path
    kind: str
    how: str = EXACTLY
    sizes: dict[str, int] = field(default_factory=dict)  # bytes in the pack, by how

    def data(self) -> bytes:
        if self.how == EXACTLY:
            return self.path.read_bytes()
        if self.kind != CHECKPOINT:
            tensors, metadata = load_weights(self.path)
            return safetensors.torch.save(_each(tensors, _rounded(2)), metadata)
        state = load_checkpoint(self.path, "cpu")
        state["optimizer"]["state"] = _each(state["optimizer"]["state"], _rounded(1))
        if self.how == ROUNDED:
            state |= {key: _each(state[key], _rounded(2)) for key in ("network", "best")}
        return _saved(state)

    @property
    def size(self) -> int:
        if self.how in (LEFT_OUT, ANEW):
            return 0
        if self.how not in self.sizes:
            # What a zip adds for each member, and what torch.save differs by from call to call, a few bytes.
            overhead = 2 * len(self.name.encode()) + 256
            self.sizes[self.how] = len(zlib.compress(self.data(), 1)) + overhead
        return self.sizes[self.how]


@dataclass(frozen=True)
class Carried:
    """What a pack holds. parts: its files; how: for each file of the folder but its small records, how it travels."""

    parts: list[Path]
    size: int
    how: dict[str, str]

    def __str__(self) -> str:
        files = counted(len(self.parts), "file")
        lines = [f"{files}, {self.size / MEGABYTE:.1f} MB: {', '.join(str(part) for part in self.parts)}"]
        for how in dict.fromkeys(self.how.values()):
            lines.append(f"  {how}: {', '.join(name for name, its in self.how.items() if its == how)}")
        return "\n".join(lines)


def pack(folder: Path, file: Path, max_mb: float = 112, only: Iterable[str] = ()) -> Carried:
    """Packs what the experiments in `only` (none: all), and those under way, need to go on, into FILE.01, FILE.02, ….

    max_mb: how many MB (10^6 bytes) the files may have in all. Small records travel always. Where the rest does not
    fit, `SAVINGS` says what is given up first. A pack that was there before is replaced whole, or stays whole.

    Raises HW7Error where the folder is in use or holds nothing, where not even the least fits, or the disk is full.
    """
    with alone_in(folder):
        if not (folder / "identity.json").exists():
            raise HW7Error(f"{folder} holds no reproduction that could be packed")
        items = list(_items(folder, only))
        _fit(items, int(max_mb * MEGABYTE) - HEAD - 64)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for item in items:
                if item.size:
                    info = zipfile.ZipInfo(item.name)
                    info.compress_type, info.comment = zipfile.ZIP_DEFLATED, item.how.encode()
                    archive.writestr(info, item.data(), compresslevel=1)
        parts = write_parts(file, buffer.getvalue())
        size = sum(part.stat().st_size for part in parts)
        return Carried(parts, size, {item.name: item.how for item in items if item.kind != RECORD})


def unpack(file: Path, folder: Path) -> Carried:
    """Puts a pack's files into a folder that holds no runs yet; all of them or, after an error or a kill, none.

    Raises HW7Error where the folder holds runs or is in use, where a part is missing or damaged, or the disk is full.
    """
    with alone_in(folder):
        runs, temporary = folder / "runs", folder / ".unpacking"
        if any(runs.glob("*")):
            raise HW7Error(f"{folder} holds runs already: go on without --unpack, or unpack into another folder")
        parts, data = read_parts(file)
        how: dict[str, str] = {}
        shutil.rmtree(temporary, ignore_errors=True)  # a kill's
        try:
            (temporary / "runs").mkdir(parents=True)
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for info in archive.infolist():
                    name = PurePosixPath(info.filename)
                    inside = name.parts[0] == "runs" or (len(name.parts) == 1 and name.suffix == ".json")
                    if not inside or ".." in name.parts or re.search(r"[\\:]", info.filename):
                        raise HW7Error(f"{file} holds a file that is none of a reproduction's: {info.filename}")
                    kept = info.comment.decode()
                    write_file(temporary / name, _restored(archive.read(info), name, kept))
                    how |= {} if name.suffix == ".json" else {info.filename: kept}
            if runs.exists():
                runs.rmdir()
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == "runs"):  # which come last
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return Carried(parts, sum(part.stat().st_size for part in parts), how)


# ---- what is packed --------------------------------------------------------------------------------------------


def _items(folder: Path, only: Iterable[str]) -> Iterator[Item]:
    """The files that may travel. Pages and pictures are made anew, and need not."""
    runs = folder / "runs"
    open_ = [name for name in EXPERIMENTS if not (runs / name / "result.json").exists()]
    asked = set(with_needs(only or EXPERIMENTS))
    going = [name for name in open_ if name in asked or any((runs / name).rglob("*.*"))]
    needed = {*open_, *(need for name in going for need in EXPERIMENTS[name].needs)}
    for path in sorted((*folder.glob("*.json"), *runs.rglob("*"))):
        name = path.relative_to(folder)
        owner = name.parts[1] if len(name.parts) > 2 else ""
        if path.suffix == ".json":
            yield Item(name.as_posix(), path, RECORD)
        elif path.name == "weights.safetensors" and owner in EXPERIMENTS:
            yield Item(name.as_posix(), path, NEEDED if owner in needed else SPARE)
        elif path.name == "checkpoint.pt" and owner in open_ and not path.with_name("run.json").exists():
            yield Item(name.as_posix(), path, CHECKPOINT)


def _fit(items: list[Item], most: int) -> None:
    """Chooses how each item travels. Raises HW7Error where they have more than `most` bytes however they do."""
    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(lambda item: item.size, items))  # compressing is what takes time
    for kinds, how in SAVINGS:
        for item in sorted((item for item in items if item.kind in kinds), key=lambda item: -item.size):
            if sum(item.size for item in items) <= most:
                return
            item.how = how
    if (least := sum(item.size for item in items)) > most:
        raise HW7Error(
            f"what the experiments that are not done need does not fit: --max-mb must be at least "
            f"{(least + HEAD) / MEGABYTE + 0.1:.1f}"
        )


def _rounded(dimensions: int) -> Callable[[Tensor], Tensor]:
    """To bfloat16, what is float32 and has so many dimensions: a batch norm's and a bias's tensors have one."""
    return lambda t: t.bfloat16() if t.dtype == torch.float32 and t.ndim >= dimensions else t


def _restored(data: bytes, name: PurePosixPath, how: str) -> bytes:
    """Float32 again, as all tensors of a run are."""

    def widened(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dtype == torch.bfloat16 else tensor

    if how not in (OPTIMIZER, ROUNDED):
        return data
    if name.suffix == ".pt":
        return _saved(_each(torch.load(io.BytesIO(data), weights_only=True), widened))
    length = int.from_bytes(data[:8], "little")  # of the JSON at the beginning of a safetensors file
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
    return safetensors.torch.save(_each(safetensors.torch.load(data), widened), metadata)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Mapping):
        return {key: _each(each, change) for key, each in value.items()}
    return change(value) if isinstance(value, Tensor) else value


def _saved(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
