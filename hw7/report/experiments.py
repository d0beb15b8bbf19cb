"""The table of experiments: every run of the report, each below what it needs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from hw7 import HW7Error
from hw7.models import StudentNet, grouped_convolution, stacked_convolutions, teacher_resnet18
from hw7.solution import Solution

NETWORKS: dict[str, Callable[[Solution, int], nn.Module]] = {
    "teacher": lambda solution, classes: teacher_resnet18(classes),
    "small_resnet18": lambda solution, classes: solution.models.small_resnet18(classes),
    "student_cnn": lambda solution, classes: solution.models.student_cnn(classes),
    "student_dw": lambda solution, classes: solution.models.student_dw(classes),
    "student_net": lambda solution, classes: StudentNet(num_classes=classes),
    "final": lambda solution, classes: solution.models.final_model(classes),
    # Question 4: three kinds of block, as wide as about 1 MB of float32 allows.
    "plain": lambda solution, classes: stacked_convolutions(grouped_convolution(1), 11, classes),
    "depthwise": lambda solution, classes: stacked_convolutions(solution.models.depthwise_separable, 31, classes),
    "grouped": lambda solution, classes: stacked_convolutions(grouped_convolution(7), 28, classes),
}


@dataclass(frozen=True)
class Experiment:
    """One run. `start` and `teacher` name the experiments whose networks it goes on from and is distilled from.

    `figures` names, for each of the ledger's figures that the run measures, the entry of its result.
    """

    id: str
    question: int
    title: str
    network: str
    recipe: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None
    teacher: str | None = None
    data: str = "training"
    keep_rate: float | None = None
    steps: int = 0
    bits: int | None = None

    @property
    def needs(self) -> list[str]:
        return [name for name in (self.start, self.teacher) if name]


PRETRAINED, SCRATCH, WEAK = "teacher-pretrained", "teacher-scratch", "teacher-weak"


_ROWS = (
    Experiment("pretraining", 0, "ResNet-18 on the pretraining classes", "teacher", "pretraining", data="pretraining"),
    # Question 1: two ways to compress one large network
    Experiment(PRETRAINED, 1, "Teacher: ResNet-18, pretrained, fine-tuned", "teacher", "fine-tuning",
               start="pretraining",
               figures={"q1.teacher.accuracy": "accuracy", "q1.teacher.loss": "loss",
                        "q2.b.accuracy": "accuracy", "q3.teacher.accuracy": "accuracy"}),
    Experiment("small-resnet18", 1, "Low-rank approximation: ResNet-18 with DW + PW", "small_resnet18", "low rank",
               figures={"q1.dwpw.accuracy": "accuracy", "q1.dwpw.loss": "loss"}),
    Experiment("student-cnn", 1, "Distillation into a plain CNN", "student_cnn", "question 1", teacher=PRETRAINED,
               figures={"q1.cnn.accuracy": "accuracy", "q1.cnn.loss": "distillation_loss"}),
    # Question 2: what distillation does, by teacher; row b is question 1's teacher
    Experiment(SCRATCH, 2, "a: teacher, ResNet-18 from scratch", "teacher", "teacher",
               figures={"q2.a.accuracy": "accuracy"}),
    Experiment("student-c", 2, "c: student from scratch, cross entropy", "student_dw", "question 2",
               figures={"q2.c.accuracy": "accuracy"}),
    Experiment("student-d", 2, "d: student distilled from (a)", "student_dw", "question 2", teacher=SCRATCH,
               figures={"q2.d.accuracy": "accuracy"}),
    Experiment("student-e", 2, "e: student distilled from (b)", "student_dw", "question 2", teacher=PRETRAINED,
               figures={"q2.e.accuracy": "accuracy", "q2.e.accuracy.table": "accuracy"}),
    # Not in the report: its explanation, that a weak teacher teaches wrong things, put to the test.
    Experiment(WEAK, 2, "extra: weak teacher, ResNet-18 stopped early", "teacher", "weak teacher"),
    Experiment("student-weak", 2, "extra: student distilled from the weak teacher", "student_dw", "question 2",
               teacher=WEAK),
    # Question 3: network pruning, and the course's quantization of the same network
    Experiment("student-net", 3, "Student before pruning, distilled", "student_net", "question 3", teacher=PRETRAINED,
               figures={"q3.student.accuracy": "accuracy", "q3.student.loss": "loss",
                        "course.quantization.float32.accuracy": "accuracy"}),
    *(Experiment(f"prune-{keep_rate}", 3, f"Pruned, keep rate {keep_rate}", "student_net", "pruning",
                 start="student-net", teacher=PRETRAINED, keep_rate=keep_rate, steps=steps)
      for keep_rate, steps in ((0.975, 20), (0.95, 10), (0.9, 5))),
    *(Experiment(f"quantized-{bits}", 3, f"Student before pruning, {bits}-bit weights", "student_net",
                 start="student-net", bits=bits, figures={f"course.quantization.{key}.accuracy": "accuracy"})
      for bits, key in ((16, "float16"), (8, "8bit"))),
    # Question 4: three kinds of convolution near 1 MB
    Experiment("plain-1mb", 4, "Plain convolutions", "plain", "question 4"),
    Experiment("depthwise-1mb", 4, "Depthwise + pointwise convolutions", "depthwise", "question 4"),
    Experiment("grouped-1mb", 4, "Group convolutions, 7 groups", "grouped", "question 4"),
)  # fmt: skip


EXPERIMENTS: dict[str, Experiment] = {row.id: row for row in _ROWS}


def same_batches(first: Experiment, second: Experiment) -> bool:
    """Whether two runs train networks of one kind on the same batches, so that they can be trained side by side.

    Pruning does not: each of its steps begins with what the one before has left.
    """
    kinds = {(row.network, row.recipe, row.data) for row in (first, second)}
    return len(kinds) == 1 and bool(first.recipe) and not first.keep_rate


def with_needs(ids: Iterable[str]) -> list[str]:
    """These experiments and what they need, in the order of the table. Raises HW7Error for one that is not in it."""
    wanted = dict.fromkeys(ids)
    for name in wanted:
        if name not in EXPERIMENTS:
            raise HW7Error(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    for name in reversed(EXPERIMENTS):  # what a row needs stands above it
        if name in wanted:
            wanted |= dict.fromkeys(EXPERIMENTS[name].needs)
    return [name for name in EXPERIMENTS if name in wanted]
