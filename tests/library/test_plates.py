"""The built-in data set: the same bytes however it is drawn, the same scene at any size, and knobs that work."""

import hashlib
from dataclasses import fields, replace
from itertools import chain

import pytest
import torch
from torch import Tensor

from hw7 import HW7Error
from hw7.data.plates import scene, shapes, tables
from hw7.data.plates.pretraining import PRETRAINING_CLASSES, looks_of, pretraining_tables
from hw7.data.plates.render import draw
from hw7.data.plates.scene import Difficulty
from hw7.data.plates.tables import CLASSES, SPLITS

EASY = Difficulty(*[0.0] * len(fields(Difficulty)))
HARD = replace(Difficulty(*[1.0] * len(fields(Difficulty))), label_noise=0.0)
FOOD11 = "Bread, Dairy product, Dessert, Egg, Fried food, Meat, Noodles/Pasta, Rice, Seafood, Soup, Vegetable/Fruit"


def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def unlike(a: Tensor, b: Tensor) -> float:
    """Mean difference, in grey levels."""
    return float((a.double() - b.double()).abs().mean())


def test_shapes_and_types() -> None:
    images, labels = draw("training", 5, 24)
    assert (images.shape, images.dtype) == ((5, 3, 24, 24), torch.uint8)
    assert (labels.shape, labels.dtype) == ((5,), torch.int64)
    images, labels = draw("training", 0, 24)
    assert (len(images), len(labels)) == (0, 0)


@pytest.mark.parametrize("split", SPLITS)
def test_an_image_does_not_depend_on_its_batch(split: str) -> None:
    knobs = replace(HARD, label_noise=0.5)
    whole = draw(split, 24, 40, seed=3, difficulty=knobs)
    parts = [draw(split, n, 40, seed=3, difficulty=knobs, start=i) for i, n in ((0, 1), (1, 16), (17, 7))]
    assert same(whole, tuple(torch.cat(column) for column in zip(*parts, strict=True)))  # type: ignore[arg-type]


def test_the_number_of_threads_changes_nothing() -> None:
    threads, drawn = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            drawn.append(draw("training", 6, 128))
    finally:
        torch.set_num_threads(threads)
    assert same(*drawn)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_changes_nothing() -> None:
    images, labels = draw("training", 64, 96, difficulty=HARD, device="cuda")
    assert same((images.cpu(), labels.cpu()), draw("training", 64, 96, difficulty=HARD))


@pytest.mark.rounding
def test_the_pictures_are_the_published_ones() -> None:
    """Trained weights and figures belong to exactly these bytes. Whoever changes them on purpose, changes this too."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for tensor in draw(split, 16, 48, seed=2**100 + 1, difficulty=replace(HARD, label_noise=0.3)):
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == "f0676a6c73f214e1000558f06f270eb34608e868d424b6c7a7fa6feeccbc9de9"


def test_seeds_splits_and_indices_differ() -> None:
    drawn = [
        draw(split, 1, 32, seed=seed, start=start)[0]
        for split in SPLITS
        for seed in (0, 1, 2**32, 2**64, 2**127 + 1)
        for start in (0, 1, 2**33)
    ]
    assert len({image.numpy().tobytes() for image in drawn}) == len(drawn)


@pytest.mark.parametrize("knobs", [EASY, replace(HARD, noise=0.0)], ids=["easy", "hard"])
def test_the_same_scene_at_two_sizes(knobs: Difficulty) -> None:
    """Fine textures are sampled otherwise, and edges are a pixel wide, so a shrunk picture differs a little: by 10 to
    12 grey levels as measured, while two pictures differ by more than 60. 20 stands clear of both."""
    large, labels = draw("validation", 32, 128, difficulty=knobs)
    small, same_labels = draw("validation", 32, 32, difficulty=knobs)
    shrunk = torch.nn.functional.avg_pool2d(large.double(), 4)
    assert torch.equal(labels, same_labels)
    assert unlike(shrunk, small) < 20 < unlike(shrunk.roll(1, 0), small)


def test_windows_cut_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window as large as the picture rounds coordinates otherwise: single levels, 1e-4 of them on average."""
    knobs = replace(HARD, noise=0.0)
    windowed = draw("training", 48, 64, difficulty=knobs)[0]
    monkeypatch.setattr(shapes, "WINDOWS", (1.0,))
    assert 0 < unlike(windowed, draw("training", 48, 64, difficulty=knobs)[0]) < 1e-3


@pytest.mark.parametrize(("split", "classes"), [("testing", CLASSES), ("pretraining", PRETRAINING_CLASSES)])
def test_labels_are_uniform(split: str, classes: tuple[str, ...]) -> None:
    count = 40 * len(classes)
    labels = draw(split, count, 8)[1]
    expected = count / len(classes)
    chi_squared = float(((torch.bincount(labels, minlength=len(classes)) - expected) ** 2 / expected).sum())
    freedom = len(classes) - 1
    assert abs(chi_squared - freedom) < 4 * (2 * freedom) ** 0.5  # its mean, and four standard deviations
    assert not torch.equal(labels, draw(split, count, 8, seed=1)[1])


def test_label_noise_is_in_the_training_labels_only() -> None:
    clean = {split: draw(split, 2000, 8) for split in SPLITS}
    noisy = {split: draw(split, 2000, 8, difficulty=Difficulty(label_noise=0.3)) for split in SPLITS}
    for split in SPLITS:
        assert torch.equal(clean[split][0], noisy[split][0])
        assert torch.equal(clean[split][1], noisy[split][1]) == (split != "training")
    wrong = clean["training"][1] != noisy["training"][1]
    assert abs(float(wrong.double().mean()) - 0.3) < 0.041  # four standard deviations of 2,000 draws
    assert set(noisy["training"][1][wrong].tolist()) == set(range(len(CLASSES)))
    everything = draw("training", 300, 8, difficulty=Difficulty(label_noise=1.0))[1]
    assert not (everything == clean["training"][1][:300]).any()


def test_the_classes() -> None:
    assert ", ".join(CLASSES) == FOOD11
    assert len(set(PRETRAINING_CLASSES)) == len(PRETRAINING_CLASSES) == 120
    assert set(CLASSES).isdisjoint(PRETRAINING_CLASSES)


def test_pretraining_classes_are_other_dishes() -> None:
    things, recipes = pretraining_tables()
    known = [looks_of(recipe, tables.FOODS) for recipe in chain(*tables.RECIPES.values())]
    new = [looks_of(recipe, things) for recipe in chain(*recipes.values())]
    assert set().union(*known).isdisjoint(set().union(*new))
    assert len(set().union(*new)) == sum(map(len, new)) == len(PRETRAINING_CLASSES)


def test_labels_belong_to_the_pictures() -> None:
    """Even the nearest of 1,200 training pictures, at 16 x 16 pixels, names half of the easy dishes (guessing: 9 %)."""
    (known, names), (asked, truth) = (
        draw(split, n, 16, difficulty=EASY) for split, n in (("training", 1200), ("testing", 300))
    )
    nearest = torch.cdist(asked.flatten(1).float(), known.flatten(1).float(), p=1).argmin(1)
    right = names[nearest] == truth
    assert right.double().mean() > 0.35  # five standard deviations below
    assert all(right[truth == label].any() for label in range(len(CLASSES)))


@pytest.mark.parametrize("knob", ["clutter", "occlusion", "light", "noise", "variation", "confusion"])
def test_each_knob_moves_the_picture_further_the_further_it_is_turned(knob: str) -> None:
    easy, half, hard = (draw("training", 96, 32, difficulty=replace(EASY, **{knob: value}))[0] for value in (0, 0.5, 1))
    assert 0.5 < unlike(easy, half) < unlike(easy, hard)


def test_noise_has_the_stated_strength() -> None:
    quiet, noisy = (draw("training", 64, 32, difficulty=replace(EASY, noise=value))[0].double() for value in (0, 1))
    inside = (quiet > 90) & (quiet < 165)  # nothing is clipped within 3.5 standard deviations
    assert abs(float((noisy - quiet)[inside].std()) / 255 - 0.102) < 0.003


def test_progress_counts_the_images() -> None:
    done: list[int] = []
    draw("training", 70, 64, progress=done.append)
    assert sum(done) == 70
    assert len(done) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "train"}, "no split 'train'"),
        ({"size": 7}, "size is 7"),
        ({"count": -1}, "count is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"start": -1}, "start is -1"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    with pytest.raises(HW7Error, match=message):
        draw(**{"split": "training", "count": 1, "size": 16, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [field.name for field in fields(Difficulty)])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_knob_out_of_range(field: str, value: float) -> None:
    with pytest.raises(HW7Error, match=field):
        Difficulty(**{field: value})


def test_the_circle() -> None:
    """Own cosine and sine: 1e-9 is far below a pixel, and they must be exact nowhere but the same everywhere."""
    turns = torch.linspace(-3, 3, 1001, dtype=torch.float64)
    cosine, sine = scene.turned(turns.numpy())
    assert abs(cosine - (2 * torch.pi * turns).cos().numpy()).max() < 1e-9
    assert abs(sine - (2 * torch.pi * turns).sin().numpy()).max() < 1e-9
