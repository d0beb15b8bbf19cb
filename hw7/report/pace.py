"""The time left: how long the rest of the experiments takes, by those that are done."""

import time
from collections.abc import Mapping

from hw7.report.experiments import EXPERIMENTS, with_needs


class Pace:
    """How long the rest of these experiments takes, by those that are done and how many images each sees.

    The first experiments to end may be slow or quick for their images: it is a guess that gets better on the way.
    """

    def __init__(self, images: Mapping[str, int], at_once: int) -> None:
        self.images, self.at_once = images, at_once
        self.open = list(images)
        self.done: list[str] = []
        self.began: dict[str, float] = {}  # of those that run
        self.seconds = 0.0  # of those that are done

    def begin(self, name: str) -> None:
        self.began[name] = time.monotonic()

    def end(self, name: str, seconds: float) -> None:
        del self.began[name]
        self.open.remove(name)
        self.done.append(name)
        self.seconds += seconds

    def fail(self, name: str) -> None:
        """What needs it is not run either."""
        del self.began[name]
        self.open = [other for other in self.open if name not in with_needs([other])]

    def left(self) -> str:
        """Such as ", about 4 min left"; nothing before one is done, nor when all are."""
        if not self.open or not self.done:
            return ""
        pace, now = self.seconds / sum(self.images[name] for name in self.done), time.monotonic()
        spent = {name: now - began for name, began in self.began.items()}
        rest = {name: max(pace * self.images[name] - spent.get(name, 0), 0) for name in self.open}  # seconds of each
        chain: dict[str, float] = {}  # seconds until each is done, were there workers for all
        for name in with_needs(self.open):  # what is needed comes first
            chain[name] = rest.get(name, 0) + max((chain[need] for need in EXPERIMENTS[name].needs), default=0)
        return f", about {_duration(max(sum(rest.values()) / self.at_once, *chain.values()))} left"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
