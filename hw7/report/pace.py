"""How long experiments take: planned from the seconds of each, and corrected by those that are done."""

import time
from collections.abc import Callable, Collection, Mapping

from hw7.report.experiments import EXPERIMENTS, with_needs

TRUST_S = 10.0  # the estimate counts as much as so many seconds that came out as estimated


def plan(seconds: Mapping[str, float], needs: Mapping[str, Collection[str]], at_once: int) -> float:
    """Seconds until all of these tasks are done, at most `at_once` at a time, as `side_by_side` runs them: of those
    that could start, the first does. What a task needs and is not among them is done already."""
    ends: dict[str, float] = {}
    free = [0.0] * at_once  # when each worker is
    waiting = list(seconds)
    while waiting:
        could = {
            name: max((ends[need] for need in needs[name] if need in seconds), default=0.0)
            for name in waiting
            if all(need in ends for need in needs[name] if need in seconds)
        }
        now = max(min(free), min(could.values()))
        name = next(name for name in waiting if could.get(name, now + 1) <= now)
        waiting.remove(name)
        free.remove(min(free))
        ends[name] = now + seconds[name]
        free.append(ends[name])
    return max(ends.values(), default=0.0)


class Pace:
    """How long the rest takes of experiments that were estimated, so many at a time."""

    def __init__(
        self, estimates: Mapping[str, float], at_once: int, trained: Callable[[str], bool] = lambda name: False
    ) -> None:
        """estimates: seconds of each; all zero where nobody knows, and then nothing is said. trained: whether nothing
        is left of one but its measuring, since it was trained beside another."""
        self.estimates, self.at_once, self.trained = estimates, at_once, trained
        self.open = list(estimates)
        self.done: list[str] = []
        self.began: dict[str, float] = {}  # of those that run
        self.took = 0.0  # seconds of those that are done
        self.until = time.monotonic()  # when all will be done, by the last estimate

    def begin(self, name: str) -> None:
        self.began[name] = time.monotonic()

    def end(self, name: str, seconds: float) -> None:
        del self.began[name]
        self.open.remove(name)
        self.done.append(name)
        self.took += seconds

    def fail(self, name: str) -> None:
        """What needs it is not run either."""
        del self.began[name]
        self.open = [other for other in self.open if name not in with_needs([other])]

    def seconds_left(self) -> float:
        factor = (TRUST_S + self.took) / (TRUST_S + sum(self.estimates[name] for name in self.done))
        now = time.monotonic()
        rest = {name: max(factor * self.estimates[name] - now + began, 0.0) for name, began in self.began.items()}
        later = [name for name in self.open if name not in rest]
        rest |= {name: 0.0 if self.trained(name) else factor * self.estimates[name] for name in later}
        seconds = plan(rest, {name: EXPERIMENTS[name].needs for name in rest}, self.at_once)
        self.until = now + seconds
        return seconds

    def left(self) -> str:
        """Such as ", about 4 min left"; nothing where nobody knows, nor when all are done."""
        return _left(self.seconds_left()) if any(self.estimates[name] for name in self.open) else ""

    def countdown(self) -> str:
        """The same between two ends, for any thread."""
        seconds = self.until - time.monotonic()
        return _left(seconds) if seconds > 0 else ""


def _left(seconds: float) -> str:
    return f", about {duration(seconds)} left"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
