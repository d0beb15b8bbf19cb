"""The work of an experiment: how many images it trains on and scores, each as often as it is seen.

It depends on the profile alone. How long it takes is the machine's affair: each kind of work is timed there.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hw7.data.plates.source import PLATES_COUNTS
from hw7.report.experiments import EXPERIMENTS
from hw7.report.profiles import Profile
from hw7.training.timing import Cost


@dataclass(frozen=True)
class Kind:
    """What work costs depends on these: the network that sees an image, and how that is trained.

    network, teacher: names of NETWORKS; a teacher of "" is none. optimizer: "" where the image is only scored.
    """

    network: str
    teacher: str = ""
    optimizer: str = ""
    batch: int = 0


@dataclass(frozen=True)
class Work:
    """How many images of each kind are seen, and how many runs begin that see some."""

    images: Counter[Kind]
    starts: Counter[Kind]

    def __add__(self, other: "Work") -> "Work":
        return Work(self.images + other.images, self.starts + other.starts)

    @property
    def trained(self) -> int:
        """How many images are trained on."""
        return sum(images for kind, images in self.images.items() if kind.optimizer)

    @property
    def scored(self) -> int:
        """How many are only scored."""
        return self.images.total() - self.trained

    def seconds(self, costs: Mapping[Kind, Cost]) -> float:
        """Without kinds that have no costs."""
        return sum(cost.image * self.images[kind] + cost.start * self.starts[kind] for kind, cost in costs.items())


NOTHING = Work(Counter(), Counter())


def work_of(name: str, profile: Profile, images: Mapping[str, int], done: Callable[[int], int] = lambda run: 0) -> Work:
    """What an experiment still has to do.

    images: how many there are of each split. done(run): how many epochs it has behind it in a run; pruning has a run
    for each of its steps, counted from 0, every other experiment the run 0 at most. Pruned networks count as the one
    that they are cut from: their teacher costs as much as they do, and all of it is a tenth of the report.
    """
    experiment = EXPERIMENTS[name]
    network, taught = experiment.network, EXPERIMENTS[experiment.teacher].network if experiment.teacher else ""
    training, validation = images[experiment.data], images["validation"]
    if experiment.data == "pretraining":
        training, validation = training * 9 // 10, training - training * 9 // 10  # as hold_out_tenth does
    seen, starts = Counter[Kind](), Counter[Kind]()
    for run in range(max(1, experiment.steps)):
        past = done(run)
        for phase in profile.recipes.get(experiment.recipe, ()):
            left, past = max(phase.epochs - past, 0), max(past - phase.epochs, 0)
            kind = Kind(network, taught, phase.optimizer, phase.batch)
            seen[kind] += left * training
            seen[Kind(network)] += left * validation
            starts.update([kind, Kind(network)] if left else [])
    if experiment.bits:
        seen[Kind(network)] += validation
    if experiment.data == "training":
        seen[Kind(network)] += images["testing"]
    if taught:  # the loss by its teacher
        seen[Kind(network)] += validation
        seen[Kind(taught)] += validation
    return Work(+seen, starts)  # without those of which there is none


def images_of(profile: Profile) -> dict[str, int]:
    """How many images each split of `plates` has at a profile."""
    return {split: count or PLATES_COUNTS[split] for split, count in profile.images.items()}
