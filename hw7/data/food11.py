"""Food-11, as the course has it: folders of JPEG files whose names begin with the label; read and written."""

import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hw7 import HW7Error
from hw7.data.source import Split, SplitPlan, broken_files, choose_subset, file_stamp, list_folder, name_some
from hw7.support.files import check_place
from hw7.support.system import cores, expanded
from hw7.support.words import counted, reason

FOOD11_CLASSES = (
    *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat"),
    *("Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"),
)
FOOD11_COUNTS = {"training": 9_866, "validation": 3_430, "testing": 3_347}


def free_folder(directory: str | Path, split: str) -> Path:
    """Where `write_food11` writes a split of this name. Raises HW7Error where it cannot, as far as can be seen."""
    folder = expanded(directory) / split
    check_place(folder, folder=True)
    if folder.exists() and any(folder.iterdir()):
        raise HW7Error(f"{folder} has files in it already; move them away, or write to another folder")
    return folder


def write_food11(split: Split, directory: str | Path) -> Path:
    """Write a split as JPEG files (quality 95) in Food-11's layout; return the folder, directory/split.name.

    The files are named `{label}_{id}.jpg`, id counting within the class, or `{id}.jpg` where the labels are not known.
    The folder appears when it is complete. Raises HW7Error where one with this name has files in it, or none can be
    written.
    """
    folder = free_folder(directory, split.name)
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
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
        raise HW7Error(f"cannot write the images to {folder}: {reason(error)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def plan_food11(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> SplitPlan:
    """The plan of `food11:DIR`. Warns where Food-11 has another number of images.

    Raises HW7Error where folders are missing, a class has no image, or files are misnamed or broken.
    """
    if not argument:
        raise HW7Error("food11 needs the folder that holds training, validation and testing: food11:DIR")
    root = expanded(argument).absolute()
    if not root.is_dir():
        raise HW7Error(f"there is no folder {root}; name the one that holds training, validation and testing")
    names = ("testing", "evaluation") if split == "testing" else (split,)
    folder = next((root / name for name in names if (root / name).is_dir()), None)
    if folder is None:
        raise HW7Error(f"{root} has no folder {' or '.join(names)}; what is there: {name_some(root)}")

    paths, known, problems = _labelled_files(folder, unlabelled=split == "testing")
    if not paths and not problems:
        raise HW7Error(f"{folder} has no image named {{label}}_{{id}}.jpg; what is there: {name_some(folder)}")
    labels = torch.tensor(known, dtype=torch.int64)
    chosen = choose_subset(labels, limit)
    paths, labels = [paths[index] for index in chosen], labels[chosen]
    if problems:  # then there is no cached split to be had, and the broken images belong on the same list
        _, broken = _decode(paths, 8, workers, lambda n: None)
        raise broken_files(folder, problems + broken)
    if missing := sorted(set(range(len(FOOD11_CLASSES))) - set(known) if known[0] >= 0 else ()):
        classes = ", ".join(f"{label} ({FOOD11_CLASSES[label]})" for label in missing)
        raise HW7Error(f"{folder} has no image of class {classes}; is the data set complete?")
    if len(known) != FOOD11_COUNTS[split]:
        found = counted(len(known), "image")
        warnings.warn(f"{folder} has {found}; Food-11 has {FOOD11_COUNTS[split]:,} there", stacklevel=4)

    def make(size: int, update: Callable[[int], object]) -> tuple[Tensor, Tensor]:
        images, broken = _decode(paths, size, workers, update)
        if broken:
            raise broken_files(folder, broken)
        return images, labels

    return SplitPlan(FOOD11_CLASSES, len(paths), [file_stamp(path) for path in paths], make)


def _labelled_files(folder: Path, unlabelled: bool) -> tuple[list[Path], list[int], list[str]]:
    """Images of one folder by label and id, their labels (-1: none), and what is wrong with the others.

    The label comes from the file's own name: a path may have digits and underscores anywhere. Hidden files, and files
    that are no images by their suffix, are passed over. unlabelled: whether `{id}.jpg` is a name, too.
    """
    images, problems = [], []
    for path in list_folder(folder):
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


def _unreadable(path: Path) -> str:
    """Why a file can be no image, seen from outside; "" where it can. A pipe, for one, would be waited for."""
    try:
        status = path.stat()
    except OSError as error:
        return "is a link to nothing" if path.is_symlink() else f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    return "" if status.st_size else "is empty"


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


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture in RGB. Raises ValueError where there is no telling what its numbers mean."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion cuts at 255
        return Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):  # of a range that nobody knows: Pillow would cut them to white or black
        raise ValueError(f"has 32 bits a pixel (mode {image.mode}): save it with 8 or 16")
    return image.convert("RGB")
