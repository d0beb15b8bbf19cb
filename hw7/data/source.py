"""A data source: what it plans, and what all sources share."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hw7 import HW7Error


@dataclass(frozen=True, eq=False)
class Split:
    """One split of one source, on one device.

    images: uint8 [N, 3, S, S]. labels: int64 [N], -1 where nobody knows. classes: the name of each label.
    source: the source as it was asked for. name: "training", "validation", "testing" or "pretraining".
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether every label is known. Accuracy and loss mean nothing on a split where one is not."""
        return bool((self.labels >= 0).all())

    def to(self, device: torch.device | str) -> "Split":
        """The same split with its tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


_SUBSET_SEED = 7
_SHOWN = 20  # problems listed one by one, before the rest are only counted


@dataclass(frozen=True)
class Plan:
    """A split that has been looked through but not decoded.

    key: everything the images depend on besides source, split and size; JSON can hold it.
    make(size, update): the tensors, uint8 [N, 3, size, size] and int64 [N]; calls update(n) after each n images.
    """

    classes: tuple[str, ...]
    count: int
    key: list
    make: Callable[[int, Callable[[int], object]], tuple[Tensor, Tensor]]


def choose_subset(labels: Tensor, limit: int | None) -> Tensor:
    """Indices, ascending, of `limit` images with all classes as equal as they can be; a larger limit adds to a smaller.

    The images are shuffled once; then each class's first image goes before any class's second, and so on.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SUBSET_SEED))
    rank = torch.empty_like(order)
    for label in labels.unique():
        members = labels[order] == label
        rank[members] = torch.arange(int(members.sum()))
    return order[rank.argsort(stable=True)[:limit]].sort().values


def file_stamp(path: Path) -> list:
    """What tells one version of a file from another without reading it."""
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_some(folder: Path) -> str:
    names = sorted(path.name for path in list_folder(folder)) if folder.is_dir() else []
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "") or "nothing"


def list_folder(folder: Path) -> list[Path]:
    """What is in a folder. Raises HW7Error where it cannot be listed."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise HW7Error(f"{folder} cannot be read: {error.strerror}") from error


def unreadable(path: Path) -> str:
    """Why a file can be no image, seen from outside; "" where it can. A pipe, for one, would be waited for."""
    try:
        status = path.stat()
    except OSError as error:
        return "is a link to nothing" if path.is_symlink() else f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    return "" if status.st_size else "is empty"


def broken_files(folder: Path, problems: list[str]) -> HW7Error:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    rest = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return HW7Error(f"{folder}: {len(problems)} file(s) cannot be used; replace or remove them:\n{shown}{rest}")
