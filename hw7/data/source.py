"""What all data sources share: a split, the plan of one, a balanced subset, and what is said of bad files."""

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


@dataclass(frozen=True)
class SplitPlan:
    """A split that has been looked through but not decoded.

    cache_key: everything the images depend on besides source, split and size; JSON can hold it.
    make(size, update): the tensors, uint8 [N, 3, size, size] and int64 [N]; calls update(n) after each n images.
    """

    classes: tuple[str, ...]
    count: int
    cache_key: list
    make: Callable[[int, Callable[[int], object]], tuple[Tensor, Tensor]]


_SUBSET_SEED = 7


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


def list_folder(folder: Path) -> list[Path]:
    """What is in a folder. Raises HW7Error where it cannot be listed."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise HW7Error(f"{folder} cannot be read: {error.strerror}") from error


def name_some(folder: Path) -> str:
    """What is in a folder, for a message; "nothing" where it is empty or there is none."""
    names = sorted(path.name for path in list_folder(folder)) if folder.is_dir() else []
    return ", ".join(_first(names)) or "nothing"


def broken_files(folder: Path, problems: list[str]) -> HW7Error:
    """The error that lists what is wrong with the files of a folder, a line for each."""
    files, them = ("1 file", "it") if len(problems) == 1 else (f"{len(problems)} files", "them")
    listed = "".join(f"\n  {line}" for line in _first(problems))
    return HW7Error(f"{folder}: {files} cannot be used; replace or remove {them}:{listed}")


def _first(lines: list[str]) -> list[str]:
    """The first 20, and how many more there are."""
    return lines if len(lines) <= 20 else [*lines[:20], f"and {len(lines) - 20} more"]
