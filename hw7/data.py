"""Pictures of any source as one uint8 tensor [N, 3, S, S]: looked through, decoded once, cached, handed out as `Split`.

A source is one function. It looks at what is there (names and sizes, no pixels) and answers with a `_Plan`: how many
images, what they depend on, and how to make them. The rest (subset, progress bar, cache, errors) is the same for all:

    plates[:OPTIONS]          drawn dishes, any number of them (hw7.plates); the default. plates:7 has another seed,
                              plates:difficulty=0.5 easier pictures, plates:seed=7,noise=0 both its own seed and a knob
    food11:DIR                the course's folders training, validation, testing (or evaluation), label in the file name
    fashion-mnist[:DIR]       the IDX files, as Debian's dataset-fashion-mnist or torchvision stores them
"""

import gzip
import hashlib
import json
import math
import os
import re
import shutil
import stat
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from hw7.account import expanded
from hw7.errors import HW7Error
from hw7.files import replacing

SOURCES = ("plates", "plates:SEED", "plates:difficulty=0.5", "food11:DIR", "fashion-mnist", "fashion-mnist:DIR")
SPLITS = ("training", "validation", "testing", "pretraining")
FOOD11_CLASSES = (
    "Bread",
    "Dairy product",
    "Dessert",
    "Egg",
    "Fried food",
    "Meat",
    "Noodles/Pasta",
    "Rice",
    "Seafood",
    "Soup",
    "Vegetable/Fruit",
)
FOOD11_COUNTS = {"training": 9_866, "validation": 3_430, "testing": 3_347}
PLATES_COUNTS = FOOD11_COUNTS | {"pretraining": 20_000}
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# File and first and last image; the validation images are the last 10,000 of the training file.
FASHION_MNIST_SPLITS = {
    "training": ("train", 0, 50_000),
    "validation": ("train", 50_000, 60_000),
    "testing": ("t10k", 0, 10_000),
}
FASHION_MNIST_DIR = "/usr/share/datasets/fashion-mnist"

_CACHE_VERSION = 2  # goes up when the same files are to give other pixels
_SUBSET_SEED = 7
_SHOWN = 20  # problems listed one by one, before the rest are only counted


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
class _Plan:
    """A split that has been looked through but not decoded.

    key: everything the images depend on besides source, split and size; JSON can hold it.
    make(size, update): the tensors, uint8 [N, 3, size, size] and int64 [N]; calls update(n) after each n images.
    """

    classes: tuple[str, ...]
    count: int
    key: list
    make: Callable[[int, Callable[[int], object]], tuple[Tensor, Tensor]]


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
    kind, _, argument = source.partition(":")
    if kind not in _PLANNERS:
        raise HW7Error(f"there is no data source {source!r}; there are {', '.join(SOURCES)}")
    if split not in SPLITS:
        raise HW7Error(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    if split == "pretraining" and kind != "plates":
        raise HW7Error(f"{kind} has no split 'pretraining': its teacher is pretrained on plates or on ImageNet")
    if size < 1 or (limit is not None and limit < 1):
        raise HW7Error(f"size and limit must be at least 1, not {size} and {limit}")

    plan = _PLANNERS[kind](argument, split, limit, workers or cores(), torch.device(device))
    key = json.dumps([_CACHE_VERSION, kind, split, size, plan.key])
    path = cache_dir() / f"{kind}-{split}-{size}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.safetensors"
    tensors = _read_cache(path)
    if tensors is None:
        with tqdm(total=plan.count, desc=f"{kind} {split}", unit=" images", disable=None if progress else True) as bar:
            images, labels = plan.make(size, bar.update)
        tensors = {"images": images, "labels": labels}
        _write_cache(path, tensors)
    return Split(tensors["images"], tensors["labels"], plan.classes, source, split).to(device)


def write_food11(split: Split, directory: str | Path) -> Path:
    """Write a split as JPEG files (quality 95) in Food-11's layout; return the folder, directory/split.name.

    The files are named `{label}_{id}.jpg`, id counting within the class, or `{id}.jpg` where the labels are not known.
    The folder appears when it is complete. Raises HW7Error where one with this name has files in it, or none can be
    written.
    """
    folder = expanded(directory) / split.name
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    if folder.is_dir() and any(folder.iterdir()):
        raise HW7Error(f"{folder} has files in it already; move them away, or write to another folder")

    names, seen = [], [0] * len(split.classes)
    for index, label in enumerate(split.labels.tolist()):
        names.append(f"{label}_{seen[label]}.jpg" if split.labelled else f"{index}.jpg")
        seen[label] += 1
    images = split.images.permute(0, 2, 3, 1).cpu().numpy()

    def write(index: int) -> None:
        Image.fromarray(images[index]).save(staging / names[index], quality=95)

    try:
        staging.mkdir(parents=True)
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(write, range(len(names))))
        os.replace(staging, folder)
    except OSError as error:
        raise HW7Error(f"cannot write {len(names)} images to {folder}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


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


def _subset(labels: Tensor, limit: int | None) -> Tensor:
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


def _stamp(path: Path) -> list:
    """What tells one version of a file from another without reading it."""
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in _entries(folder)) if folder.is_dir() else []
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "") or "nothing"


# ---- plates ------------------------------------------------------------------------------------------------


def _plan_plates(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> _Plan:
    from hw7 import plates  # here, because the other sources work without the generator

    seed, difficulty = plates_options(argument)
    count = limit or PLATES_COUNTS[split]
    look: dict[str, Any] = {"seed": seed, "difficulty": difficulty}
    generator = hashlib.sha256(Path(plates.__file__).read_bytes()).hexdigest()

    def make(size: int, update: Callable[[int], object]) -> tuple[Tensor, Tensor]:
        if device.type == "cuda":
            images, labels = plates.draw(split, count, size, **look, device=device, progress=update)
            return images.cpu(), labels.cpu()
        images, labels = torch.empty(count, 3, size, size, dtype=torch.uint8), torch.empty(count, dtype=torch.int64)

        def draw(start: int) -> int:
            stop = min(start + 64, count)
            images[start:stop], labels[start:stop] = plates.draw(split, stop - start, size, **look, start=start)
            return stop - start

        # Batches side by side, one torch thread each. torch's own threads split operations too small for that, and on
        # a busy machine wait for each other: 25 pictures a second on 2 cores, against 300 to 500 this way.
        # What set_num_threads sets in a thread is also the default for threads that start later: it is put back.
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for done in pool.map(draw, range(0, count, 64)):
                    update(done)
        finally:
            torch.set_num_threads(threads)
        return images, labels

    classes = plates.PRETRAINING_CLASSES if split == "pretraining" else plates.CLASSES
    return _Plan(
        classes, count, [generator, seed, asdict(difficulty), count], make
    )  # any device draws the same pictures


def plates_options(argument: str) -> tuple[int, Any]:
    """The seed and the difficulty in "7", "difficulty=0.5" or "seed=7,noise=0"; `difficulty` scales every knob."""
    from hw7.plates import Difficulty

    seed, scale, usual, own = 0, 1.0, asdict(Difficulty()), dict[str, float]()
    for option in filter(None, argument.split(",")):
        name, _, value = option.rpartition("=")
        try:
            if name in ("", "seed"):
                seed = int(value)
            elif name == "difficulty":
                scale = float(value)
            elif name in usual:
                own[name] = float(value)
            else:
                raise ValueError
        except ValueError:
            raise HW7Error(
                f"plates:{argument}: {option!r} is not understood. Give a seed (plates:7), difficulty=0.5, which "
                f"scales every knob, or one of the knobs ({', '.join(usual)}), joined by commas"
            ) from None
    return seed, Difficulty(**{name: scale * value for name, value in usual.items()} | own)


# ---- Food-11 -----------------------------------------------------------------------------------------------


def _plan_food11(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> _Plan:
    if not argument:
        raise HW7Error("food11 needs the folder that holds training, validation and testing: food11:DIR")
    root = expanded(argument).absolute()
    if not root.is_dir():
        raise HW7Error(f"there is no folder {root}; name the one that holds training, validation and testing")
    names = ("testing", "evaluation") if split == "testing" else (split,)
    folder = next((root / name for name in names if (root / name).is_dir()), None)
    if folder is None:
        raise HW7Error(f"{root} has no folder {' or '.join(names)}; what is there: {_listing(root)}")

    paths, known, problems = _food11_files(folder, unlabelled=split == "testing")
    if not paths and not problems:
        raise HW7Error(f"{folder} has no image named {{label}}_{{id}}.jpg; what is there: {_listing(folder)}")
    labels = torch.tensor(known, dtype=torch.int64)
    chosen = _subset(labels, limit)
    paths, subset = [paths[index] for index in chosen], labels[chosen]
    if problems:  # then there is no cached split to be had, and the broken images belong on the same list
        _, broken = _decode(paths, 8, workers, lambda n: None)
        raise _broken_files(folder, problems + broken)
    if missing := sorted(set(range(len(FOOD11_CLASSES))) - set(known) if known[0] >= 0 else ()):
        classes = ", ".join(f"{label} ({FOOD11_CLASSES[label]})" for label in missing)
        raise HW7Error(f"{folder} has no image of class {classes}; is the data set complete?")
    if len(known) != FOOD11_COUNTS[split]:
        warnings.warn(f"{folder} has {len(known):,} images; Food-11 has {FOOD11_COUNTS[split]:,} there", stacklevel=3)

    def make(size: int, update: Callable[[int], object]) -> tuple[Tensor, Tensor]:
        images, broken = _decode(paths, size, workers, update)
        if broken:
            raise _broken_files(folder, broken)
        return images, subset

    return _Plan(FOOD11_CLASSES, len(paths), [_stamp(path) for path in paths], make)


def _food11_files(folder: Path, unlabelled: bool) -> tuple[list[Path], list[int], list[str]]:
    """Images of one folder by label and id, their labels (-1: none), and what is wrong with the others.

    The label comes from the file's own name: a path may have digits and underscores anywhere. Hidden files, and files
    that are no images by their suffix, are passed over. unlabelled: whether `{id}.jpg` is a name, too.
    """
    images, problems = [], []
    for path in _entries(folder):
        if path.name.startswith(".") or path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            continue
        match = re.fullmatch(r"(?:([0-9]+)_)?([0-9]+)", path.stem)
        label = int(match[1]) if match and match[1] else -1
        if match is None or (label < 0 and not unlabelled):
            problems.append(f"{path.name}: is not named {{label}}_{{id}}.jpg")
        elif label >= len(FOOD11_CLASSES):
            problems.append(f"{path.name}: label {label} is not one of 0..{len(FOOD11_CLASSES) - 1}")
        elif trouble := _unreadable(path):
            problems.append(f"{path.name}: {trouble}")
        else:
            images.append((label, int(match[2]), path.name))
    images.sort()
    if any(label >= 0 for label, *_ in images):
        problems += [f"{name}: has no label, but others in this folder do" for label, _, name in images if label < 0]
    return [folder / name for *_, name in images], [label for label, *_ in images], sorted(problems)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder. Raises HW7Error where it cannot be listed."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise HW7Error(f"{folder} cannot be read: {error.strerror}") from error


def _unreadable(path: Path) -> str:
    """Why a file can be no image, seen from outside; "" where it can. A pipe, for one, would be waited for."""
    try:
        status = path.stat()
    except OSError as error:
        return "is a link to nothing" if path.is_symlink() else f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    return "" if status.st_size else "is empty"


def _broken_files(folder: Path, problems: list[str]) -> HW7Error:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    rest = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return HW7Error(f"{folder}: {len(problems)} file(s) cannot be used; replace or remove them:\n{shown}{rest}")


def _decode(paths: list[Path], size: int, workers: int, update: Callable[[int], object]) -> tuple[Tensor, list[str]]:
    """Images [N, 3, size, size] in the order of `paths`, and a line for each that cannot be read.

    The whole picture is resized to size x size (bilinear over the area of each new pixel), as in the course. A camera's
    note on which way is up (EXIF orientation) is ignored, as torchvision does. Threads are enough: Pillow decodes and
    resizes outside Python's lock (1.8 times as fast on 2 cores).
    """
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)

    def read(index: int) -> str | None:
        try:
            with Image.open(paths[index]) as image:
                # JPEG can be decoded at 1/2, 1/4, 1/8. Down to twice the size asked for, the result differs by less
                # than one grey level in the mean, and the work is 1.5 times as fast.
                image.draft("RGB", (2 * size, 2 * size))
                pixels = np.array(_eight_bits(image).resize((size, size), Image.Resampling.BILINEAR))
        except UnidentifiedImageError:
            return f"{paths[index].name}: is not an image"
        except Exception as error:  # Pillow's decoders raise a dozen types; each is reported, none becomes an image
            return f"{paths[index].name}: {error}"
        images[index] = torch.from_numpy(pixels).permute(2, 0, 1)
        return None

    broken = []
    with ThreadPoolExecutor(workers) as pool:
        for problem in pool.map(read, range(len(paths))):
            update(1)
            if problem:
                broken.append(problem)
    return images, broken


_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_WIDE = ("I", "F")  # 32 bits a pixel, of a range that nobody knows: Pillow would cut them to white or black


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture in RGB. Raises ValueError where there is no telling what its numbers mean."""
    if image.mode in _GREY_16:  # Pillow's own conversion cuts at 255
        return Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in _WIDE:
        raise ValueError(f"has 32 bits a pixel (mode {image.mode}): save it with 8 or 16")
    return image.convert("RGB")


# ---- Fashion-MNIST -----------------------------------------------------------------------------------------


def _plan_fashion_mnist(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> _Plan:
    prefix, first, last = FASHION_MNIST_SPLITS[split]
    images_file = _find_idx(argument, f"{prefix}-images-idx3-ubyte")
    labels_file = _find_idx(argument, f"{prefix}-labels-idx1-ubyte")
    labels = read_idx(labels_file)
    if labels.ndim != 1 or len(labels) < last or int(labels.max()) >= len(FASHION_MNIST_CLASSES):
        raise HW7Error(f"{labels_file} is not Fashion-MNIST's: {last:,} labels in 0..9 are expected")
    chosen = first + _subset(labels[first:last], limit)

    def make(size: int, update: Callable[[int], object]) -> tuple[Tensor, Tensor]:
        grey = read_idx(images_file)
        if grey.shape != (len(labels), 28, 28):
            raise HW7Error(f"{images_file} has shape {tuple(grey.shape)}, not {(len(labels), 28, 28)}")
        images = torch.empty(len(chosen), 3, size, size, dtype=torch.uint8)
        for done in range(0, len(chosen), 1000):
            batch = grey[chosen[done : done + 1000], None]
            images[done : done + 1000] = F.interpolate(batch, (size, size), mode="bilinear", antialias=True)
            update(len(batch))
        return images, labels[chosen].long()

    key = [_stamp(images_file), _stamp(labels_file), limit]
    return _Plan(FASHION_MNIST_CLASSES, len(chosen), key, make)


def _find_idx(root: str, name: str) -> Path:
    """The file, packed or not, in `root` (default: Debian's folder) or where torchvision puts it below `root`."""
    base = expanded(root or FASHION_MNIST_DIR).absolute()
    for folder in (base, base / "FashionMNIST" / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise HW7Error(
        f"there is no {name} or {name}.gz in {base} or {base}/FashionMNIST/raw; what is there: {_listing(base)}. "
        "Install Debian's package (apt-get install dataset-fashion-mnist), or let torchvision download it "
        "(torchvision.datasets.FashionMNIST(DIR, download=True)) and say fashion-mnist:DIR."
    )


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in an IDX file, gzip or not: 0, 0, 8 (for uint8), dimensions, each as 4 bytes, then the entries.

    Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database". Raises HW7Error where the file is not that.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise HW7Error(f"{path} cannot be read ({error}); install or download it again") from error
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    shape = np.frombuffer(data[4:start], ">u4").tolist() if len(data) >= start else []
    if data[:3] != b"\0\0\x08" or not shape or len(data) != start + math.prod(shape):
        raise HW7Error(f"{path} is not a complete IDX file of bytes; install or download it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


_PLANNERS = {"plates": _plan_plates, "food11": _plan_food11, "fashion-mnist": _plan_fashion_mnist}
