"""Real files in the sources' exact layouts, made here, and everything that can be wrong with them."""

import gzip
import os
import shutil
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hw7 import HW7Error
from hw7.data import fashion_mnist, source
from hw7.data import food11 as food11_source
from hw7.data.fashion_mnist import read_idx
from hw7.data.food11 import FOOD11_CLASSES, write_food11
from hw7.data.load import cache_dir, load_split
from hw7.data.plates import render, scene, tables
from hw7.data.plates import source as plates_source
from hw7.data.source import Split
from hw7.report import ledger

pytestmark = pytest.mark.filterwarnings("ignore:.*Food-11 has")  # these folders are small on purpose


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def colour(label: int) -> tuple[int, int, int]:
    return 20 * label, 255 - 20 * label, 128


def write_image(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50 + label, 40), colour(label)).save(path, quality=95)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images a class and split, in a path full of what a careless reader takes for a label."""
    root = tmp_path / "hw7 2020" / "my 3 data" / "food_11"
    for folder in ("training", "validation", "testing"):
        for label in range(11):
            for number in (2, 10):
                name = f"{11 * number + label}.jpg" if folder == "testing" else f"{label}_{number}.jpg"
                write_image(root / folder / name, label)
    return root


def food11(root: Path, split: str = "training", **options: object) -> Split:
    return load_split(f"food11:{root}", split, 16, **options)  # type: ignore[arg-type]


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each decode that takes place."""
    calls: list[int] = []
    decode = food11_source._decode
    monkeypatch.setattr(food11_source, "_decode", lambda paths, *rest: calls.append(len(paths)) or decode(paths, *rest))
    return calls


# ---- Food-11 ---------------------------------------------------------------------------------------------


def test_food11_takes_labels_from_names_in_numeric_order(root: Path) -> None:
    split = food11(root)
    assert split.images.shape == (22, 3, 16, 16)
    assert split.images.dtype == torch.uint8
    assert split.labels.tolist() == [label for label in range(11) for _ in range(2)]
    assert (split.classes, split.name, split.source) == (FOOD11_CLASSES, "training", f"food11:{root}")
    for image, label in zip(split.images, split.labels.tolist(), strict=True):
        # JPEG at quality 95 moves a flat colour by at most 2 grey levels.
        assert (image.permute(1, 2, 0).int() - torch.tensor(colour(label))).abs().max() <= 2


def test_food11_ids_are_numbers(root: Path) -> None:
    write_image(root / "validation" / "0_9.jpg", 10)  # as text, 9 comes after 10
    split = food11(root, "validation")
    assert split.labels[:4].tolist() == [0, 0, 0, 1]
    assert split.images[1, 0, 0, 0] > 190  # label 10's colour: 0_9 stands between 0_2 and 0_10
    assert split.images[2, 0, 0, 0] < 10


def test_food11_resizes_the_whole_picture(tmp_path: Path) -> None:
    """The left half is black, the right half white, whatever the shape; a JPEG decoded at a smaller scale agrees."""
    for label in range(11):
        pixels = np.zeros((300, 400, 3), np.uint8)
        pixels[:, 200:] = 255
        path = tmp_path / "training" / f"{label}_0.{'png' if label == 0 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    png, jpeg = food11(tmp_path).images[:2].int()
    assert (png[:, :, :7] == 0).all()
    assert (png[:, :, 9:] == 255).all()
    # JPEG rings at the edge, which falls between pixels 7 and 8: away from it the two agree to a few grey levels.
    assert (png - jpeg)[:, :, [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]].abs().max() <= 8


def test_food11_junk_is_passed_over(root: Path) -> None:
    expected = food11(root)
    for name in (".DS_Store", "._0_2.jpg", "Thumbs.db", "read me.txt"):
        (root / "training" / name).write_bytes(b"junk")
    (root / "training" / "masks").mkdir()
    split = food11(root)
    assert torch.equal(split.images, expected.images)
    assert torch.equal(split.labels, expected.labels)


def test_food11_testing_without_labels(root: Path) -> None:
    split = food11(root, "testing")
    assert split.labels.tolist() == [-1] * 22
    assert not split.labelled
    assert [int(image[0, 0, 0]) // 20 for image in split.images + 4] == 2 * list(range(11))  # by number: 22..32, 110..


def test_food11_evaluation_is_testing_and_may_have_labels(root: Path) -> None:
    shutil.rmtree(root / "testing")
    (root / "training").rename(root / "evaluation")
    split = food11(root, "testing")
    assert split.labelled
    assert split.labels.bincount().tolist() == [2] * 11


def test_food11_counts_are_compared_with_the_known_ones(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"training has 22 images; Food-11 has 9,866"):
        food11(root)


def test_food11_reports_every_bad_file_at_once(root: Path, cache: Path) -> None:
    folder = root / "training"
    whole = (folder / "3_2.jpg").read_bytes()
    (folder / "3_2.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "4_2.jpg").write_bytes(b"no image at all")
    (folder / "5_2.jpg").write_bytes(b"")
    for name in ("bread.jpg", "7.jpg", "11_0.jpg", "-1_0.jpg", "1_2_3.jpg", "٣_1.jpg"):
        write_image(folder / name, 0)
    with pytest.raises(HW7Error) as caught:
        food11(root)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{folder}: 9 file(s)")
    told = {line.split(":")[0].strip(): line for line in lines[1:]}
    expected = {
        "3_2.jpg": "Truncated",  # in its header
        "4_2.jpg": "not an image",
        "5_2.jpg": "empty",
        "bread.jpg": "not named",
        "7.jpg": "not named",
        "11_0.jpg": "label 11",
        "-1_0.jpg": "not named",
        "1_2_3.jpg": "not named",
        "٣_1.jpg": "not named",
    }
    assert told.keys() == expected.keys()
    assert all(word in told[name] for name, word in expected.items())
    assert not caches(cache)


def test_food11_what_cannot_be_looked_at_is_on_the_list(root: Path, tmp_path: Path) -> None:
    """Links to nothing, to themselves and to folders, folders, pipes: none ends the look, none is waited for."""
    folder = root / "training"
    (folder / "0_7.jpg").symlink_to(tmp_path / "gone.jpg")
    (folder / "1_7.jpg").symlink_to(folder / "1_7.jpg")
    (folder / "2_7.jpg").symlink_to(tmp_path)
    (folder / "3_7.jpg").mkdir()
    os.mkfifo(folder / "4_7.png")
    (folder / "5_7.jpg").symlink_to(folder / "5_2.jpg")  # a link to an image is an image
    with pytest.raises(HW7Error) as caught:
        food11(root)
    told = dict(line.strip().split(": ", 1) for line in str(caught.value).splitlines()[1:])
    assert told == {
        "0_7.jpg": "is a link to nothing",
        "1_7.jpg": "is a link to nothing",
        "2_7.jpg": "is no regular file",
        "3_7.jpg": "is no regular file",
        "4_7.png": "is no regular file",
    }


def test_food11_a_folder_that_cannot_be_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(HW7Error, match="training cannot be read: Permission denied"):
        food11(root)


def test_food11_sixteen_bits_are_scaled(root: Path) -> None:
    """As 8-bit files of the same pictures, to a rounding."""
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    for path in (root / "training").glob("0_*.jpg"):
        path.unlink()
    Image.fromarray(ramp.astype(np.uint16)).save(root / "training" / "0_1.png")
    Image.fromarray((ramp / 257).astype(np.uint8)).save(root / "training" / "0_2.png")
    sixteen, eight = food11(root).images[:2].int()
    assert 0 < eight.float().mean() < 255
    assert (sixteen - eight).abs().max() <= 1


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_food11_wider_pixels_are_on_the_list(root: Path, dtype: type, mode: str) -> None:
    Image.fromarray(np.ones((8, 8), dtype)).save(root / "training" / "0_3.png", "TIFF")
    with pytest.raises(HW7Error, match=rf"0_3\.png: has 32 bits a pixel \(mode {mode}\)"):
        food11(root)


def test_food11_one_truncated_image_leaves_no_cache(root: Path, cache: Path) -> None:
    path = root / "validation" / "6_10.jpg"
    Image.effect_noise((300, 200), 50).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(HW7Error, match=r"1 file.*\n  6_10\.jpg: .*truncated"):
        food11(root, "validation")
    assert not caches(cache)


def test_food11_a_long_list_is_cut_and_counted(root: Path) -> None:
    for number in range(50):
        (root / "training" / f"picture {number}.jpg").touch()
    with pytest.raises(HW7Error, match=r"and 30 more$") as caught:
        food11(root)
    assert len(str(caught.value).splitlines()) == 22


def test_food11_one_test_image_without_a_label_among_labelled_ones(root: Path) -> None:
    write_image(root / "testing" / "3_1.jpg", 3)
    with pytest.raises(HW7Error, match=r"22 file.*\n  110\.jpg: has no label"):
        food11(root, "testing")


def test_food11_empty_class_is_named(root: Path) -> None:
    for path in (root / "training").glob("7_*.jpg"):
        path.unlink()
    with pytest.raises(HW7Error, match=r"no image of class 7 \(Rice\)"):
        food11(root)


def test_food11_missing_folder_says_what_is_there(root: Path) -> None:
    shutil.rmtree(root / "testing")
    with pytest.raises(HW7Error, match=r"no folder testing or evaluation; what is there: training, validation$"):
        food11(root, "testing")
    with pytest.raises(HW7Error, match=r"there is no folder .*; name the one that holds training"):
        food11(root / "elsewhere")


def test_food11_folder_of_folders_says_what_is_there(tmp_path: Path) -> None:
    write_image(tmp_path / "training" / "Bread" / "0_0.jpg", 0)
    with pytest.raises(HW7Error, match=r"no image named \{label\}_\{id\}\.jpg; what is there: Bread$"):
        food11(tmp_path)


# ---- Subsets, sources, splits ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 11, 15, 22, 100])
def test_limit_takes_all_classes_equally(root: Path, limit: int) -> None:
    counts = food11(root, limit=limit).labels.bincount(minlength=11)
    assert counts.sum() == min(limit, 22)
    assert counts.max() - counts.min() <= 1


def test_limit_takes_always_the_same_and_grows_by_adding(root: Path, decodes: list[int]) -> None:
    some, more, whole = food11(root, limit=5), food11(root, limit=17), food11(root)
    assert decodes == [5, 17, 22]  # only what was asked for
    assert torch.equal(some.images, food11(root, limit=5).images)

    def names(split: Split) -> set[bytes]:
        return {image.numpy().tobytes() for image in split.images}

    assert names(some) <= names(more) <= names(whole)


def test_limit_is_balanced_as_far_as_a_small_class_allows() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 50)
    chosen = source.choose_subset(labels, 33)
    assert labels[chosen].bincount().tolist() == [15, 3, 15]
    assert chosen.tolist() == sorted(set(chosen.tolist()))


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        (
            "food12:there",
            "training",
            "no data source 'food12:there'; there are plates, plates:SEED, plates:difficulty=0.5, food11:DIR",
        ),
        ("", "training", "no data source ''"),
        ("plates", "test", "no split 'test'; there are training, validation, testing, pretraining"),
        ("food11", "training", "food11:DIR"),
        ("food11:there", "pretraining", "pretrained on plates or on ImageNet"),
        ("fashion-mnist", "pretraining", "pretrained on plates or on ImageNet"),
        ("plates:seven", "training", "'seven' is not understood. Give a seed \\(plates:7\\)"),
    ],
)
def test_unknown_sources_and_splits(source: str, split: str, message: str) -> None:
    with pytest.raises(HW7Error, match=message):
        load_split(source, split, 16)


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 16, "limit": 0}])
def test_nothing_is_no_size_and_no_limit(options: dict[str, int]) -> None:
    with pytest.raises(HW7Error, match="at least 1"):
        load_split("plates", "training", **options)


# ---- The cache -------------------------------------------------------------------------------------------


def test_a_split_is_decoded_once(root: Path, decodes: list[int], cache: Path) -> None:
    first, second = food11(root), food11(root)
    assert decodes == [22]
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert len(caches(cache)) == 1
    load_split(f"food11:{root}", "training", 8)
    assert decodes == [22, 22]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_image(folder / "1_2.jpg", 10),
        lambda folder: os.utime(folder / "1_2.jpg", ns=(0, 1)),
        lambda folder: (folder / "1_2.jpg").unlink(),
        lambda folder: (folder / "1_2.jpg").rename(folder / "1_3.jpg"),
        lambda folder: write_image(folder / "1_11.jpg", 1),
    ],
    ids=["rewritten", "touched", "removed", "renamed", "added"],
)
def test_changed_files_are_decoded_anew(root: Path, decodes: list[int], change: Callable[[Path], object]) -> None:
    food11(root)
    change(root / "training")
    split = food11(root)
    assert len(decodes) == 2
    assert len(split) == len(list((root / "training").iterdir()))


def test_a_bad_file_is_reported_although_the_others_are_cached(root: Path) -> None:
    food11(root)
    (root / "training" / "new.jpg").write_bytes(b"")
    with pytest.raises(HW7Error, match=r"new\.jpg"):
        food11(root)


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_a_damaged_cache_is_made_again(root: Path, decodes: list[int], cache: Path, kept: int) -> None:
    expected = food11(root).images.clone()
    (path,) = caches(cache)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.warns(UserWarning, match=r"damaged .* made again"):
        assert torch.equal(food11(root).images, expected)
    with warnings.catch_warnings(action="error", category=UserWarning):
        warnings.filterwarnings("ignore", message=".*Food-11 has")
        food11(root)
    assert decodes == [22, 22]


def test_what_killed_runs_left_is_never_read_and_goes_in_time(root: Path, decodes: list[int], cache: Path) -> None:
    cache.mkdir(parents=True)
    old, new = cache / ".old.1.part", cache / ".of a run that still writes.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    food11(root)
    assert decodes == [22]
    assert list(cache.glob(".*.part")) == [new]


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from hw7.data import load as data
from hw7.support import files
files.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
data.load_split(sys.argv[1], "training", 16, progress=False)
"""


def test_a_kill_while_caching_leaves_no_cache(root: Path, cache: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED_IN_THE_MIDDLE, f"food11:{root}"]
    assert subprocess.run(command, check=False).returncode == -9
    assert list(cache.glob(".*.part"))  # it was indeed killed while it wrote
    assert not caches(cache)
    assert len(food11(root)) == 22


def test_a_cache_that_cannot_be_written_is_a_clear_error(root: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(HW7Error, match=r"cannot write .*HW7_CACHE"):
        food11(root)
    assert cache.read_text() == "a file where the folder should be"


FULL_DISK = """
mount -t tmpfs -o size=8k tmpfs "$1" || exit 77
HW7_CACHE="$1" "$2" -W ignore -c '
import sys
from hw7.data.load import load_split
load_split(sys.argv[1], "training", 16, progress=False)
' "$3"
code=$?
find "$1" -type f
exit $code
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a file system of its own")
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL_DISK, "sh"]
    run = subprocess.run(
        [*command, disk, sys.executable, f"food11:{root}"], capture_output=True, text=True, check=False
    )
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip("this machine lets nobody mount a tmpfs")
    assert run.returncode == 1
    message = run.stderr.splitlines()[-1]
    assert "HW7Error: cannot write" in message
    assert "No space left on device" in message
    assert "make room there" in message
    assert run.stdout == ""


def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW7_CACHE", "/some/where")
    assert cache_dir() == Path("/some/where")
    monkeypatch.delenv("HW7_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/hw7")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_dir() == Path("/home/ada/.cache/hw7")


# ---- Writing Food-11's layout ----------------------------------------------------------------------------


def smooth_split(name: str, labels: list[int]) -> Split:
    ramp = torch.linspace(0, 200, 16).to(torch.uint8).expand(3, 16, 16)
    images = torch.stack([ramp + 5 * index for index in range(len(labels))])
    return Split(images, torch.tensor(labels), FOOD11_CLASSES, "made here", name)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    labels = [10, *range(11), 3]
    written = smooth_split("validation", labels)
    folder = write_food11(written, tmp_path / "out")
    assert folder == tmp_path / "out" / "validation"
    assert {path.name for path in folder.iterdir()} == {f"{label}_0.jpg" for label in range(11)} | {
        "10_1.jpg",
        "3_1.jpg",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["validation"]

    read = food11(tmp_path / "out", "validation")
    order = written.labels.argsort(stable=True)
    assert torch.equal(read.labels, written.labels[order])
    # Quality 95 keeps a smooth grey ramp within 3 grey levels; the images are 5 apart.
    assert (read.images.int() - written.images[order].int()).abs().max() <= 3


def test_unknown_labels_are_not_written(tmp_path: Path) -> None:
    folder = write_food11(smooth_split("testing", [-1, -1, -1]), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    assert food11(tmp_path, "testing").labels.tolist() == [-1] * 3


def test_nothing_is_written_over_other_files(root: Path) -> None:
    before = sorted(root.rglob("*"))
    with pytest.raises(HW7Error, match="has files in it already"):
        write_food11(smooth_split("training", [0, 1]), root)
    assert sorted(root.rglob("*")) == before


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(HW7Error, match=r"cannot write 2 images to .*training: .*No space left"):
        write_food11(smooth_split("training", [0, 1]), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- Fashion-MNIST ---------------------------------------------------------------------------------------


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


# ---- plates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["training", "pretraining"])
def test_plates_are_the_generators_in_its_order(split: str) -> None:
    threads = torch.get_num_threads()
    loaded = load_split("plates:5", split, 16, limit=150, workers=2)
    assert torch.get_num_threads() == threads
    images, labels = render.draw(split, 150, 16, seed=5)
    assert torch.equal(loaded.images, images)
    assert torch.equal(loaded.labels, labels)
    assert loaded.classes == (tables.PRETRAINING_CLASSES if split == "pretraining" else tables.CLASSES)


KNOBS = ("clutter", "occlusion", "light", "noise", "variation", "confusion")


@pytest.mark.parametrize(
    ("options", "seed", "knobs"),
    [
        ("difficulty=1", 0, {}),
        ("difficulty=0.5", 0, dict(zip(KNOBS, (0.25, 0.15, 0.25, 0.15, 0.25, 0.2), strict=True))),
        ("seed=7,noise=0", 7, {"noise": 0.0}),
        ("7,label_noise=0.5", 7, {"label_noise": 0.5}),
    ],
)  # fmt: skip
def test_plates_take_a_seed_and_knobs(options: str, seed: int, knobs: dict[str, float]) -> None:
    loaded = load_split(f"plates:{options}", "training", 16, limit=40)
    images, labels = render.draw("training", 40, 16, seed=seed, difficulty=scene.Difficulty(**knobs))
    assert torch.equal(loaded.images, images)
    assert torch.equal(loaded.labels, labels)
    assert not torch.equal(loaded.images, load_split("plates:8", "training", 16, limit=40).images)


@pytest.mark.parametrize("options", ["noise=", "noise=much", "sugar=1", "difficulty", "noise=2"])
def test_plates_options_that_are_none(options: str) -> None:
    with pytest.raises(HW7Error, match=r"not understood|between 0 and 1"):
        load_split(f"plates:{options}", "training", 16, limit=4)


def test_plates_of_a_secret_seed(cache: Path) -> None:
    secret = 2**127 + 12345
    assert len(load_split(f"plates:{secret}", "testing", 16, limit=3)) == 3
    (path,) = caches(cache)
    assert str(secret) not in path.name
    with pytest.raises(HW7Error, match="seed is -1"):
        load_split("plates:-1", "testing", 16, limit=3)


def test_plates_cache_knows_seed_count_and_generator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    calls = []
    draw = render.draw
    monkeypatch.setattr(render, "draw", lambda *given, **named: calls.append(given) or draw(*given, **named))
    for asked, limit in (("plates", 4), ("plates:0", 4), ("plates:1", 4), ("plates", 5)):
        load_split(asked, "testing", 16, limit=limit)
    assert len(calls) == 3  # no seed is seed 0
    assert len(caches(cache)) == 3
    (tmp_path / "plates.py").write_text("# another version")
    monkeypatch.setattr(plates_source, "__file__", str(tmp_path / "plates.py"))
    load_split("plates", "testing", 16, limit=4)
    assert len(calls) == 4


def test_plates_have_the_classes_of_food11_and_of_the_report() -> None:
    assert tables.CLASSES == FOOD11_CLASSES == ledger.load()["data.class_names"].value
