"""Fashion-MNIST as a data source: IDX files in its layout, whole and broken."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hw7 import HW7Error
from hw7.data import fashion_mnist
from hw7.data.fashion_mnist import read_idx
from hw7.data.load import load_split


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def idx(array: np.ndarray, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fashion-MNIST in small: 30 training images, of which the last 10 validate, and 20 for testing.

    Image i is grey level i all over, its label is i modulo 10.
    """
    sizes = {"training": ("train", 0, 20), "validation": ("train", 20, 30), "testing": ("t10k", 0, 20)}
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST_SPLITS", sizes)
    folder = tmp_path / "fashion"
    folder.mkdir()
    for prefix, count, pack in (("train", 30, gzip.compress), ("t10k", 20, bytes)):
        suffix = ".gz" if pack is gzip.compress else ""
        images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return folder


@pytest.mark.parametrize(("split", "levels"), [("training", (0, 20)), ("validation", (20, 30)), ("testing", (0, 20))])
@pytest.mark.parametrize("size", [16, 28, 33])
def test_fashion_mnist_splits(fashion: Path, split: str, levels: tuple[int, int], size: int) -> None:
    loaded = load_split(f"fashion-mnist:{fashion}", split, size)
    expected = torch.arange(*levels)
    assert loaded.images.shape == (len(expected), 3, size, size)
    assert (loaded.images == expected[:, None, None, None]).all()  # a flat grey image stays one, at any size
    assert torch.equal(loaded.labels, expected % 10)
    assert loaded.classes == fashion_mnist.FASHION_MNIST_CLASSES


def test_fashion_mnist_as_torchvision_stores_it(fashion: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "FashionMNIST").mkdir(parents=True)
    fashion.rename(tmp_path / "data" / "FashionMNIST" / "raw")
    assert len(load_split(f"fashion-mnist:{tmp_path / 'data'}", "testing", 28)) == 20


def test_fashion_mnist_limit_pairs_images_with_their_labels(fashion: Path) -> None:
    split = load_split(f"fashion-mnist:{fashion}", "validation", 28, limit=5)
    assert len(split) == 5
    assert torch.equal(split.images[:, 0, 0, 0].long() % 10, split.labels)


def test_fashion_mnist_missing_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "something else").touch()
    with pytest.raises(HW7Error, match=r"what is there: something else\. .*apt-get install.*fashion-mnist:DIR"):
        load_split(f"fashion-mnist:{tmp_path}", "training", 28)


def test_fashion_mnist_of_other_sizes_is_refused(fashion: Path) -> None:
    (fashion / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((20, 27, 28), np.uint8)))
    with pytest.raises(HW7Error, match=r"shape \(20, 27, 28\), not \(20, 28, 28\)"):
        load_split(f"fashion-mnist:{fashion}", "testing", 28)
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 10, np.uint8)))
    with pytest.raises(HW7Error, match=r"20 labels in 0\.\.9"):
        load_split(f"fashion-mnist:{fashion}", "testing", 28)


WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_is_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / ("a.gz" if pack is gzip.compress else "a")
    path.write_bytes(pack(WHOLE))
    assert torch.equal(read_idx(path), torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("magic", idx(np.zeros(3, np.uint8), b"\0\1\x08")),
        ("floats", idx(np.zeros(3, np.float32), b"\0\0\x0d")),
        ("short", WHOLE[:-1]),
        ("long", WHOLE + b"\0"),
        ("no dimensions", b"\0\0\x08\0"),
        ("header cut", WHOLE[:9]),
        ("three bytes", WHOLE[:3]),
        ("nothing", b""),
        ("no gzip.gz", WHOLE),
        ("cut.gz", gzip.compress(WHOLE, mtime=0)[:-12]),
        ("damaged.gz", gzip.compress(WHOLE, mtime=0)[:12] + b"\xff" * 10 + gzip.compress(WHOLE, mtime=0)[22:]),
        ("html.gz", b"<html>not found</html>"),
    ],
)
def test_idx_that_is_broken_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HW7Error, match="install or download it again") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not Path(fashion_mnist.FASHION_MNIST_DIR).is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist_of_debian() -> None:
    split = load_split("fashion-mnist", "validation", 28, limit=100)
    assert split.labels.bincount().tolist() == [10] * 10
    assert split.images[split.labels == 1].float().mean() < split.images[split.labels == 2].float().mean()
