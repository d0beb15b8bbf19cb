"""Plates as a data source: its options, and drawing on all cores."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw7 import HW7Error
from hw7.data.food11 import PLATES_COUNTS
from hw7.data.source import Plan

# ---- plates ------------------------------------------------------------------------------------------------


def plan_plates(argument: str, split: str, limit: int | None, workers: int, device: torch.device) -> Plan:
    from hw7.data.plates import render, tables

    seed, difficulty = plates_options(argument)
    count = limit or PLATES_COUNTS[split]
    look: dict[str, Any] = {"seed": seed, "difficulty": difficulty}
    generator = hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    ).hexdigest()

    def make(size: int, update: Callable[[int], object]) -> tuple[Tensor, Tensor]:
        if device.type == "cuda":
            images, labels = render.draw(split, count, size, **look, device=device, progress=update)
            return images.cpu(), labels.cpu()
        images, labels = torch.empty(count, 3, size, size, dtype=torch.uint8), torch.empty(count, dtype=torch.int64)

        def draw(start: int) -> int:
            stop = min(start + 64, count)
            images[start:stop], labels[start:stop] = render.draw(split, stop - start, size, **look, start=start)
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

    classes = tables.PRETRAINING_CLASSES if split == "pretraining" else tables.CLASSES
    return Plan(
        classes, count, [generator, seed, asdict(difficulty), count], make
    )  # any device draws the same pictures


def plates_options(argument: str) -> tuple[int, Any]:
    """The seed and the difficulty in "7", "difficulty=0.5" or "seed=7,noise=0"; `difficulty` scales every knob."""
    from hw7.data.plates.scene import Difficulty

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
