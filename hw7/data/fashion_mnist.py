"""Fashion-MNIST, as torchvision or Debian store it: images and labels in IDX files, gzip or not."""

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw7 import HW7Error
from hw7.data.source import SplitPlan, choose_subset, file_stamp, name_some
from hw7.support.system import expanded
from hw7.support.words import reason

FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# File and first and last image; the validation images are the last 10,000 of the training file.
FASHION_MNIST_SPLITS = {
    "training": ("train", 0, 50_000),
    "validation": ("train", 50_000, 60_000),
    "testing": ("t10k", 0, 10_000),
}
FASHION_MNIST_DIR = "/usr/share/datasets/fashion-mnist"


def plan_fashion_mnist(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> SplitPlan:
    """The plan of `fashion-mnist[:DIR]`. Raises HW7Error where files are missing, or not Fashion-MNIST's."""
    prefix, first, last = FASHION_MNIST_SPLITS[split]
    images_file = _find_idx(argument, f"{prefix}-images-idx3-ubyte")
    labels_file = _find_idx(argument, f"{prefix}-labels-idx1-ubyte")
    labels = read_idx(labels_file)
    if labels.ndim != 1 or len(labels) < last or int(labels.max()) >= len(FASHION_MNIST_CLASSES):
        raise HW7Error(f"{labels_file} is not Fashion-MNIST's: {last:,} labels in 0..9 are expected")
    chosen = first + choose_subset(labels[first:last], limit)

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

    key = [file_stamp(images_file), file_stamp(labels_file), limit]
    return SplitPlan(FASHION_MNIST_CLASSES, len(chosen), key, make)


def _find_idx(root: str, name: str) -> Path:
    """The file, packed or not, in `root` (default: Debian's folder) or where torchvision puts it below `root`."""
    base = expanded(root or FASHION_MNIST_DIR).absolute()
    for folder in (base, base / "FashionMNIST" / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise HW7Error(
        f"there is no {name} or {name}.gz in {base} or {base}/FashionMNIST/raw; what is there: {name_some(base)}. "
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
        raise HW7Error(f"{path} cannot be read ({reason(error)}); install or download it again") from error
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    shape = np.frombuffer(data[4:start], ">u4").tolist() if len(data) >= start else []
    if data[:3] != b"\0\0\x08" or not shape or len(data) != start + math.prod(shape):
        raise HW7Error(f"{path} is not a complete IDX file of bytes; install or download it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())
