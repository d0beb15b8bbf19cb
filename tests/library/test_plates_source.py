"""`plates` as a data source: the generator's pictures, its options, and what the cache depends on."""

from pathlib import Path

import pytest
import torch

from hw7 import HW7Error
from hw7.data.food11 import FOOD11_CLASSES
from hw7.data.load import load_split
from hw7.data.plates import render, scene, tables
from hw7.data.plates import source as plates_source
from hw7.data.plates.pretraining import PRETRAINING_CLASSES
from hw7.report import ledger


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HW7_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("split", ["training", "pretraining"])
def test_plates_are_the_generators_in_its_order(split: str) -> None:
    threads = torch.get_num_threads()
    loaded = load_split("plates:5", split, 16, limit=150, workers=2)
    assert torch.get_num_threads() == threads
    images, labels = render.draw(split, 150, 16, seed=5)
    assert torch.equal(loaded.images, images)
    assert torch.equal(loaded.labels, labels)
    assert loaded.classes == (PRETRAINING_CLASSES if split == "pretraining" else tables.CLASSES)


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
    (path,) = list(cache.glob("*.safetensors"))
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
    assert len(list(cache.glob("*.safetensors"))) == 3
    for number, code in enumerate(("VERSION = 2", "VERSION = 2  # again", "VERSION = 3")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "plates.py").write_text(code)
        monkeypatch.setattr(plates_source, "__file__", str(folder / "plates.py"))
        load_split("plates", "testing", 16, limit=4)
    assert len(calls) == 5  # a comment draws nothing again


def test_plates_have_the_classes_of_food11_and_of_the_report() -> None:
    assert tables.CLASSES == FOOD11_CLASSES == ledger.load()["data.class_names"].value
