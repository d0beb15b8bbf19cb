"""Food-11 as a data source: real files in the course's layout, everything that can be wrong with them, and writing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from food11_files import colour, food11, write_image, write_small_food11
from PIL import Image

from hw7 import HW7Error
from hw7.data.food11 import FOOD11_CLASSES, write_food11
from hw7.data.source import Split

pytestmark = pytest.mark.filterwarnings("ignore:.*Food-11 has")  # these folders are small on purpose


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_small_food11(tmp_path)


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
    assert lines[0].startswith(f"{folder}: 9 files cannot be used; replace or remove them:")
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
    assert not list(cache.glob("*"))


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
        "2_7.jpg": "is not a regular file",
        "3_7.jpg": "is not a regular file",
        "4_7.png": "is not a regular file",
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
    assert not list(cache.glob("*"))


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
    with pytest.raises(HW7Error, match=r"cannot write the images to .*training: .*No space left"):
        write_food11(smooth_split("training", [0, 1]), tmp_path)
    assert list(tmp_path.iterdir()) == []
