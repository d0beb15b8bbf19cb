"""`plates` as a data source: its options, and drawing on all cores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from hw7 import HW7Error
from hw7.data.food11 import FOOD11_COUNTS
from hw7.data.plates import render, tables
from hw7.data.plates.pretraining import PRETRAINING_CLASSES
from hw7.data.plates.scene import Difficulty
from hw7.data.source import SplitPlan
from hw7.support.digests import digest_code

PLATES_COUNTS = FOOD11_COUNTS | {"pretraining": 20_000}


def plan_plates(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> SplitPlan:
    """The plan of `plates[:OPTIONS]`: drawn on a CUDA device where one is asked for, on `workers` cores otherwise."""
    seed, difficulty = plates_options(argument)
    count = limit or PLATES_COUNTS[split]
    draw = partial(render.draw, split, seed=seed, difficulty=difficulty)

    def make(size: int, update: Callable[[int], object]) -> tuple[Tensor, Tensor]:
        if device.type == "cuda":
            images, labels = draw(count, size, device=device, progress=update)
            return images.cpu(), labels.cpu()
        images, labels = torch.empty(count, 3, size, size, dtype=torch.uint8), torch.empty(count, dtype=torch.int64)

        def draw_some(start: int) -> int:
            stop = min(start + 64, count)
            images[start:stop], labels[start:stop] = draw(stop - start, size, start=start)
            return stop - start

        # Batches side by side, one torch thread each. torch's own threads split operations too small for that, and on
        # a busy machine wait for each other: 25 pictures a second on 2 cores, against 300 to 500 this way.
        # What set_num_threads sets in a thread is also the default for threads that start later: it is put back.
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for done in pool.map(draw_some, range(0, count, 64)):
                    update(done)
        finally:
            torch.set_num_threads(threads)
        return images, labels

    classes = PRETRAINING_CLASSES if split == "pretraining" else tables.CLASSES
    code = _digest_of_generator(Path(__file__).parent)
    cache_key = [code, seed, asdict(difficulty), count]  # no device: any draws the same pictures
    return SplitPlan(classes, count, cache_key, make)


@cache
def _digest_of_generator(folder: Path) -> str:
    """Pictures are drawn again where the code that draws them does another thing, not where a comment is edited."""
    return digest_code(folder, folder.glob("*.py"))


def plates_options(argument: str) -> tuple[int, Difficulty]:
    """The seed and the difficulty in "7", "difficulty=0.5" or "seed=7,noise=0"; `difficulty` scales every knob."""
    seed, given, usual = 0, dict[str, float](), asdict(Difficulty())
    for option in filter(None, argument.split(",")):
        name, _, value = option.rpartition("=")
        try:
            if name in ("", "seed"):
                seed = int(value)
            elif name in ("difficulty", *usual):
                given[name] = float(value)
            else:
                raise ValueError
        except ValueError:
            raise HW7Error(
                f"plates:{argument}: {option!r} is not understood. Give a seed (plates:7), difficulty=0.5, which "
                f"scales every knob, or one of the knobs ({', '.join(usual)}), joined by commas"
            ) from None
    scale = given.pop("difficulty", 1.0)
    return seed, Difficulty(**{name: scale * value for name, value in usual.items()} | given)
