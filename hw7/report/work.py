"""The work of an experiment: how many images it trains on and scores, each as often as it is seen.

It depends on the profile alone. How long it takes is the machine's affair: an image of each kind is timed there.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hw7.data.plates.source import PLATES_COUNTS
from hw7.report.experiments import EXPERIMENTS
from hw7.report.profiles import Profile


@dataclass(frozen=True)
class Kind:
    """What an image costs depends on these: the network that sees it, and how that is trained.

    network, teacher: names of NETWORKS; a teacher of "" is none. optimizer: "" where the image is only scored.
    """

    network: str
    teacher: str = ""
    optimizer: str = ""
    batch: int = 0


def work_of(
    name: str, profile: Profile, images: Mapping[str, int], done: Callable[[int], int] = lambda run: 0
) -> Counter[Kind]:
    """How many images of each kind an experiment still has to see.

    images: how many there are of each split. done(run): how many epochs it has behind it in a run; pruning has a run
    for each of its steps, counted from 0, every other experiment the run 0 at most.
    """
    experiment = EXPERIMENTS[name]
    network, taught = experiment.network, EXPERIMENTS[experiment.teacher].network if experiment.teacher else ""
    training, validation = images[experiment.data], images["validation"]
    if experiment.data == "pretraining":
        training, validation = training * 9 // 10, training - training * 9 // 10  # as hold_out_tenth does
    work: Counter[Kind] = Counter()
    for run in range(max(1, experiment.steps)):
        past = done(run)
        for phase in profile.recipes.get(experiment.recipe, ()):
            left, past = max(phase.epochs - past, 0), max(past - phase.epochs, 0)
            work[Kind(network, taught, phase.optimizer, phase.batch)] += left * training
            work[Kind(network)] += left * validation
        work[Kind(network)] += validation
    if experiment.data == "training":
        work[Kind(network)] += images["testing"]
    if taught:  # the loss by its teacher
        work[Kind(network)] += validation
        work[Kind(taught)] += validation
    return +work  # without those of which there is none


def trained_and_scored(work: Mapping[Kind, int]) -> tuple[int, int]:
    """How many of the images are trained on, and how many are only scored."""
    trained = sum(images for kind, images in work.items() if kind.optimizer)
    return trained, sum(work.values()) - trained


def images_of(profile: Profile) -> dict[str, int]:
    """How many images each split of `plates` has at a profile."""
    return {split: count or PLATES_COUNTS[split] for split, count in profile.images.items()}
