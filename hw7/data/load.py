"""Data loading: one split of any source as uint8 pictures [N, 3, S, S], decoded or drawn once, then kept in a cache.

A source is one function. It looks at what is there (names and sizes, no pixels) and answers with a `SplitPlan`: how
many images, what they depend on, and how to make them. The rest (options, progress bar, cache) is the same for all:

    plates[:OPTIONS]          drawn dishes, any number of them; the default. plates:7 has another seed,
                              plates:difficulty=0.5 easier pictures, plates:seed=7,noise=0 both its own seed and a knob
    food11:DIR                the course's folders training, validation, testing (or evaluation), label in the file name
    fashion-mnist[:DIR]       the IDX files, as Debian's dataset-fashion-mnist or torchvision stores them
"""

import hashlib
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from hw7 import HW7Error
from hw7.data.fashion_mnist import plan_fashion_mnist
from hw7.data.food11 import plan_food11
from hw7.data.plates.source import plan_plates
from hw7.data.plates.tables import SPLITS
from hw7.data.source import Split, SplitPlan
from hw7.support.files import replacing
from hw7.support.system import cores, expanded

PLANNERS = {"plates": plan_plates, "food11": plan_food11, "fashion-mnist": plan_fashion_mnist}
SOURCES = ("plates", "plates:SEED", "plates:difficulty=0.5", "food11:DIR", "fashion-mnist", "fashion-mnist:DIR")
_CACHE_VERSION = 2  # goes up when the same files are to give other pixels


def load_split(
    source: str,
    split: str,
    size: int,
    *,
    limit: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> Split:
    """One split of `source` ("plates", "food11:DIR", …) at size x size pixels, on `device`.

    limit: how many images. `plates` draws that many (default: as many as Food-11 has; 20,000 for pretraining); of the
    other sources it is a subset with all classes as equal as they can be, always the same one.
    workers: threads that decode or draw (default: all cores). progress: a bar on stderr, where that is a terminal.
    The tensors are kept in `cache_dir()`, and made anew where the files or the generator have changed since.

    Raises HW7Error for an unknown source or split, for files that are missing, misnamed or broken, for a class without
    an image, and where the cache cannot be written.
    """
    if size < 1 or (limit is not None and limit < 1):
        raise HW7Error(f"size and limit must be at least 1, not {size} and {limit}")
    plan = plan_split(source, split, limit, workers, device)
    kind = source.partition(":")[0]
    key = json.dumps([_CACHE_VERSION, kind, split, size, plan.cache_key])
    path = cache_dir() / f"{kind}-{split}-{size}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.safetensors"
    tensors = _read_cache(path)
    if tensors is None:
        with tqdm(total=plan.count, desc=f"{kind} {split}", unit=" images", disable=None if progress else True) as bar:
            images, labels = plan.make(size, bar.update)
        tensors = {"images": images, "labels": labels}
        _write_cache(path, tensors)
    return Split(tensors["images"], tensors["labels"], plan.classes, source, split).to(device)


def load_at_least(source: str, split: str, size: int, each: int, limit: int | None) -> Split:
    """`load_split` of more than `limit` images where so few have not `each` of every class, as far as there are more.

    `plates` draws its classes in no fixed numbers, and has wrong labels among those of training.
    """
    while True:
        found = load_split(source, split, size, limit=limit)
        if limit is None or not found.labelled:
            return found
        fewest = int(found.labels.bincount(minlength=len(found.classes)).min())
        whole = plan_split(source, split).count
        if fewest >= each or limit >= whole:
            return found
        limit = min(whole, max(2 * limit, each * len(found.classes)))


def plan_split(
    source: str, split: str, limit: int | None = None, workers: int | None = None, device: torch.device | str = "cpu"
) -> SplitPlan:
    """What `load_split` would load: looked through by names and sizes, not decoded. Raises HW7Error as that does."""
    kind, _, argument = source.partition(":")
    if kind not in PLANNERS:
        raise HW7Error(f"there is no data source {source!r}; there are {', '.join(SOURCES)}")
    if split not in SPLITS:
        raise HW7Error(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    if split == "pretraining" and kind != "plates":
        raise HW7Error(f"{kind} has no split 'pretraining': its teacher is pretrained on plates or on ImageNet")
    return PLANNERS[kind](argument, split, limit, workers or cores(), torch.device(device))


def cache_dir() -> Path:
    """$HW7_CACHE, or hw7 in $XDG_CACHE_HOME, or ~/.cache/hw7. All in it can be deleted at any time."""
    if folder := os.environ.get("HW7_CACHE"):
        return expanded(folder)
    try:
        return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hw7"
    except HW7Error as error:
        raise HW7Error("this account has no home folder to keep decoded images in: name one with HW7_CACHE") from error


def _read_cache(path: Path) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    try:
        tensors = load_file(path)  # maps the file: pages are read when they are used
        return {name: tensors[name] for name in ("images", "labels")}
    except (OSError, SafetensorError, KeyError) as error:
        warnings.warn(f"the cache {path} is damaged ({error}); it is made again", stacklevel=3)
        return None


def _write_cache(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        with replacing(path, sum(tensor.nbytes for tensor in tensors.values())) as temporary:
            save_file(tensors, temporary)
    except HW7Error as error:
        raise HW7Error(f"{error} HW7_CACHE names the folder for decoded images.") from error


def hold_out_tenth(split: Split) -> tuple[Split, Split]:
    """The first nine tenths of a split and the last, which validates where there is no split for that."""
    count = len(split) * 9 // 10
    parts = slice(count), slice(count, None)
    first, last = (replace(split, images=split.images[part], labels=split.labels[part]) for part in parts)
    return first, last
