"""Profiles: with how many images and epochs the report's experiments run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hw7.data import augment
from hw7.training.loop import Phase

AUGMENTATION = augment.Augmentation()


@dataclass(frozen=True)
class Profile:
    """How large a reproduction is: the side of the images in pixels, how many of them (None: all), and the epochs.

    `plates` are options for that source where the user gave none: small images need easier pictures. The
    networks of `zero_residuals` begin with their residual branches at zero: deep and thin, they need few epochs then.
    `notes` say why numbers are far from the report's, by experiment; `limits`, by finding, what a profile of this size
    cannot tell.
    """

    size: int
    images: Mapping[str, int | None]
    recipes: Mapping[str, tuple[Phase, ...]]
    augmentation: augment.Augmentation = AUGMENTATION
    checkpoint_seconds: float = 20.0
    plates: str = ""
    zero_residuals: tuple[str, ...] = ()
    about: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


def _cosine(epochs: int, learning_rate: float = 1e-3) -> tuple[Phase, ...]:
    return (Phase(epochs, learning_rate=learning_rate, batch=64, schedule="cosine"),)


# Compact networks need less than half as many epochs at 2e-3 to 4e-3 as at 1e-3.
SMALL = {
    "pretraining": _cosine(4),
    "fine-tuning": _cosine(6, learning_rate=4e-4),
    "teacher": _cosine(6),
    "weak teacher": _cosine(2),
    "low rank": _cosine(9, learning_rate=4e-3),
    "question 1": _cosine(10, learning_rate=2e-3),
    "question 2": _cosine(10, learning_rate=3e-3),
    "question 3": (Phase(11, learning_rate=2e-3, batch=32, schedule="cosine"),),
    "pruning": (Phase(1, learning_rate=5e-4),),
    "question 4": _cosine(8, learning_rate=3e-3),
}

SMALL_NOTES = {
    "small-resnet18": "deep and thin, it needs many steps. As built, its loss hardly fell in the first epochs at every "
    "learning rate that was tried, on images of 32 and of 64 pixels, and it ended 25 points below the CNN. Here it "
    "begins with its residual branches at zero, which brings it to a few points below.",
    "teacher-scratch": "it sees a few thousand small images a few times, so that it stands further below the "
    "pretrained one than the report's.",
    "student-cnn": "its loss is the distillation loss. At T = 20 that goes with the squared differences of the logits "
    "(Hinton et al., 2015), and a few epochs make small logits.",
}

SMALL_LIMITS = {
    "pruning": "at this profile each step is fine-tuned for one epoch, the report's for five. Twenty steps are twenty "
    "epochs more than the student before pruning has had, and may make it better than that.",
}

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        about="every part once; its accuracies mean nothing",
        size=32,
        images={"training": 66, "validation": 55, "testing": 22, "pretraining": 64},
        recipes={
            **dict.fromkeys(SMALL, (Phase(1, batch=33),)),
            "question 2": (Phase(1, batch=33), Phase(1, "sgd", batch=33)),
        },
        checkpoint_seconds=0,
    ),
    "quick": Profile(
        about="the whole report on two CPU cores",
        size=32,
        plates="difficulty=0.5",
        images={"training": 2000, "validation": 1000, "testing": 4000, "pretraining": 8000},
        recipes=SMALL,
        zero_residuals=("small_resnet18",),
        notes=SMALL_NOTES,
        limits=SMALL_LIMITS,
    ),
    "notebook": Profile(
        about="what the report notebook runs, on a laptop",
        size=32,
        plates="difficulty=0.5",
        images={"training": 1000, "validation": 1000, "testing": 2000, "pretraining": 4000},
        recipes={  # half the images want more epochs
            **SMALL,
            "pretraining": _cosine(6),
            "fine-tuning": _cosine(10, learning_rate=4e-4),
            "teacher": _cosine(10),
            "low rank": _cosine(18, learning_rate=4e-3),
            "question 1": _cosine(16, learning_rate=2e-3),
            "question 2": _cosine(20, learning_rate=3e-3),
            "question 3": _cosine(18, learning_rate=3e-3),
            "pruning": (Phase(1, learning_rate=5e-4, batch=64),),
            "question 4": _cosine(14, learning_rate=3e-3),
        },
        zero_residuals=("small_resnet18",),
        notes=SMALL_NOTES,
        limits=SMALL_LIMITS,
    ),
    "full": Profile(
        about="the report's own recipe, for a GPU",
        size=128,
        images={"training": None, "validation": None, "testing": None, "pretraining": 20_000},
        recipes={
            **dict.fromkeys(SMALL, (Phase(250),)),
            "pretraining": (Phase(100, schedule="cosine"),),
            "weak teacher": (Phase(5),),
            "question 2": (Phase(250, batch=32), Phase(50, "sgd", batch=32)),
            "pruning": (Phase(5),),
        },
    ),
}
