"""Loading a split of any source: subsets, what is no source and no split, and the cache."""

import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from food11_files import food11, write_image, write_small_food11

from hw7 import HW7Error
from hw7.data import food11 as food11_source
from hw7.data import source
from hw7.data.load import cache_dir, load_at_least, load_split
from hw7.data.source import Split

pytestmark = pytest.mark.filterwarnings("ignore:.*Food-11 has")  # these folders are small on purpose


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_small_food11(tmp_path)


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each decode that takes place."""
    calls: list[int] = []
    decode = food11_source._decode
    monkeypatch.setattr(food11_source, "_decode", lambda paths, *rest: calls.append(len(paths)) or decode(paths, *rest))
    return calls


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


# ---- some of every class ---------------------------------------------------------------------------------------


def fewest(split: Split) -> int:
    return int(split.labels.bincount(minlength=len(split.classes)).min())


@pytest.mark.parametrize(("each", "limit"), [(1, 1), (3, 20), (8, 88), (8, 300)])
def test_plates_has_as_many_of_every_class_as_are_asked_for(each: int, limit: int) -> None:
    """Of the numbers asked for: its classes come as they come, and some labels are wrong."""
    found = load_at_least("plates", "training", 8, each, limit)
    assert fewest(found) >= each
    few = load_split("plates", "training", 8, limit=limit)
    assert len(found) == limit or fewest(few) < each
    assert torch.equal(found.labels[:limit], few.labels)


def test_there_are_no_more_than_there_are(root: Path) -> None:
    source, whole = f"food11:{root}", load_split(f"food11:{root}", "training", 8)
    most = fewest(whole)
    assert fewest(load_at_least(source, "training", 8, most, 11)) == most
    assert len(load_at_least(source, "training", 8, most + 1, 11)) == len(whole)
    assert len(load_at_least(source, "training", 8, 50, None)) == len(whole)
