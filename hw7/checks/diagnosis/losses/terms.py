"""The terms that a distillation loss may be made of, in words: what each is comes with a case, as numbers.

Two places are filled: the teacher's term and the labels'. The first of each list is the one that belongs there.
"""

from itertools import product
from typing import NamedTuple

TEMPERATURES = ("T", "1", "T²", "√T", "1 / T", "20")  # what logits may be divided by
DEFAULTS = (1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 16.0, 20.0, 30.0, 40.0, 50.0, 100.0)  # of T
EPSILONS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)  # inside a logarithm
SMOOTHED = (0.1, 0.05, 0.2)  # of the labels


class Term(NamedTuple):
    """cost: in how many ways it differs from the right one. takes: the part of its factors (alpha, T²) that is inside,
    and is not expected outside any more: "alpha" or "", and a power of T."""

    words: str
    cost: int = 1
    takes: tuple[str, float] = ("", 0)


def pair(name: str, teacher: str, student: str) -> str:
    """ "KL(teacher at T ‖ student at 1)" for the template "KL({t} ‖ {s})"."""
    if teacher == student:
        plain = name.format(t="teacher", s="student")
        return plain if teacher == "T" else f"{plain} at temperature {teacher}"
    return name.format(t=f"teacher at {teacher}", s=f"student at {student}")


PAIRS = ("KL({t} ‖ {s})", "KL({s} ‖ {t})", "soft cross entropy({t}, {s})")
_SOFTENED = {
    pair(name, t, s): (number > 0) + (1 if t == s != "T" else (t != "T") + (s != "T"))
    for number, name in enumerate(PAIRS)
    for t, s in product(TEMPERATURES, repeat=2)
}
_AT_T_AND_1 = (
    "(KL(teacher ‖ student) + KL(student ‖ teacher)) / 2",
    "Jensen-Shannon divergence(teacher, student)",
    "mean squared difference of the probabilities",
    "mean squared difference of the log-probabilities",
    "mean absolute difference of the probabilities",
    "cross entropy(student, the teacher's best class)",
    "sum of p · (log p - q), with the student's probabilities q where their logarithm belongs",
    "sum of q · (log q - p), with student and teacher exchanged and no logarithm of the teacher's",
    "sum of p · (log p - z), with the student's softened logits z where log-probabilities belong",
    "sum of exp(p) · (p - log q), with the teacher's probabilities p taken for logarithms",
    "sum of exp(z) · (z - log q), with the teacher's softened logits z taken for logarithms",
    "sum of log p - log q, which the teacher's probabilities do not weigh",
    "binary cross entropy(student, teacher) of each class, mean over the classes",
    "KL(teacher ‖ student) with softmax over the batch",
    "KL(teacher ‖ student) with the teacher's softmax over the batch",
    "KL(teacher ‖ student) with the student's softmax over the batch",
    "cosine distance of the probabilities, 1 - cos",
    "KL(teacher ‖ student) of the first sample alone",
)
OTHERS = {f"{words}{at}": 1 + bool(at) for words in _AT_T_AND_1 for at in ("", ", at temperature 1")}
INSIDE = (("alpha", 2.0), ("", 2.0), ("", 1.0), ("alpha", 0.0))  # factors on the target

FIRST = (
    *(Term(words, cost) for words, cost in _SOFTENED.items()),
    *(Term(words, cost) for words, cost in OTHERS.items()),
    *(Term(f"KL(teacher ‖ student) with {epsilon:g} added inside the student's logarithm") for epsilon in EPSILONS),
    *(
        Term(
            f"KL(teacher ‖ student) with the teacher's probabilities multiplied by {' · '.join(filter(None, names))}",
            takes=taken,
        )
        for taken in INSIDE
        for names in [(taken[0], {2.0: "T²", 1.0: "T"}.get(taken[1], ""))]
    ),
    Term("mean squared difference of the logits", takes=("", 2.0)),
    Term("cosine distance of the logits, 1 - cos", takes=("", 2.0)),
)
SECOND = (
    Term("cross entropy", 0),
    *(Term(f"cross entropy(student at {temperature})") for temperature in TEMPERATURES if temperature != "1"),
    *(Term(f"cross entropy with labels smoothed by {smoothed:g}") for smoothed in SMOOTHED),
    Term("cross entropy of the teacher's logits"),
    Term("cross entropy of the teacher's logits at T"),
    Term("cross entropy of the student's probabilities, a softmax twice"),
    Term("cross entropy of the student's softened probabilities, a softmax twice"),
    Term("minus the probability of the label, without a logarithm"),
    Term("minus the logit of the label, without a softmax"),
    Term("cross entropy with softmax over the batch"),
    Term("mean squared difference of probabilities and one-hot labels"),
    Term("mean squared difference of logits and one-hot labels"),
    Term("cross entropy with the teacher's best class for a label"),
    Term("cross entropy with the teacher's probabilities for labels"),
    Term("binary cross entropy of each class, mean over the classes"),
    Term("focal loss with (1 - p)²"),
    Term("focal loss with 1 - p"),
    Term("cross entropy of the first sample alone"),
    Term("cross entropy of the label counted one further"),
)

# ---- what a step may do in another way ---------------------------------------------------------------------------

SCENES = (
    "the teacher in train mode",
    "the student in eval mode",
    "the student in eval mode and the teacher in train mode",
    "a teacher that sees mirrored images",
    "a student that sees mirrored images",
    "networks that see mirrored images",
    "a teacher that sees images upside down",
    "a teacher that sees images in [-1, 1]",
    "a student that sees images in [-1, 1]",
    "networks that see images in [-1, 1]",
    "the teacher's probabilities where its logits belong",
    "the student's probabilities where its logits belong",
    "the probabilities of both networks where their logits belong",
    "the teacher's logits divided by T twice",
    "the student's logits divided by T, which kd_loss does itself",
    "the logits of both networks divided by T, which kd_loss does itself",
    "the student's own logits where the teacher's belong",
    "the teacher's logits in reversed order of the images",
    "the labels in reversed order of the images",
    "the last image left out",
    "the first image left out",
    "the second half of the batch left out",
)
OPTIONS = (
    "temperature and alpha exchanged",
    "temperature and alpha left at their defaults, whatever is given",
    "the temperature left at its default, whatever is given",
    "alpha left at its default, whatever is given",
)
OPTIMIZERS = {  # a step …
    "momentum": "that remembers nothing of earlier ones: the given optimizer's momentum never builds up",
    "momentum and decay": "of plain SGD at the rates of the groups: without the given optimizer's momentum and decay",
    "rates": "of plain SGD at the first group's rate: without the given optimizer's momentum, decay and other rates",
    "decay": "without the given optimizer's weight decay",
    "groups": "of plain SGD at the first group's rate for all parameters: without the optimizer's momentum and groups",
    "groups but momentum": "of SGD with momentum at the first group's rate for all parameters: without the groups",
    "twice": "made twice along each gradient",
    **{
        f"{kind} {rate:g}": f"of {kind} with a learning rate of {rate:g}, made anew each time, not of the given one"
        for kind in ("SGD", "Adam", "AdamW")
        for rate in (0.1, 0.01, 0.001)
    },
}
ACCUMULATED = "along the sum of all gradients so far: those of the steps before are never zeroed"
