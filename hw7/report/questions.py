"""The four questions as sections of the page, each in the report's own order: tables, curves, conclusions."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch

from hw7 import measure
from hw7.report import formulas, structures
from hw7.report.blocks import Block, Claim, Folded, Formula, Pictures, Section, Table, Text, cell
from hw7.report.compare import SUMMARY
from hw7.report.counting import KEPT_ALIKE, RATES
from hw7.report.experiments import EXPERIMENTS, NETWORKS, PRETRAINED, SCRATCH, WEAK
from hw7.report.plots import Picture, plot_pruning, plot_sizes
from hw7.report.results import ABOUT_VERDICTS, Results, percent, with_error
from hw7.report.settings import training_table
from hw7.solution import Solution
from hw7.training.weights import quantized

TRAINED = Text("How they were trained, printed and used:")
CONCLUDED = Text(ABOUT_VERDICTS)


def sections(results: Results) -> Iterator[Section]:
    """All four."""
    for title, question in (
        ("Question 1: two ways to compress one large network", _two_ways),
        ("Question 2: what distillation does, by teacher", _teachers),
        ("Question 3: network pruning", _pruning),
        ("Question 4: plain, depthwise + pointwise, group convolution", _convolutions),
    ):
        yield Section(title, list(question(results)))


# ---- question 1 ----


def _two_ways(results: Results) -> Iterator[Block]:
    networks = (
        ("ResNet-18, the teacher", "teacher", PRETRAINED),
        ("“low-rank approximation”: ResNet-18 with DW + PW", "dwpw", "small-resnet18"),
        ("knowledge distillation into a plain CNN", "cnn", "student-cnn"),
    )
    sizes, accuracies = [], []
    for name, key, run in networks:
        parameters, size, accuracy, loss = (
            results.comparisons[f"q1.{key}.{what}"] for what in ("parameters", "bytes", "accuracy", "loss")
        )
        cells = [text for c in (parameters, size) for text in (cell(c.figure.value), results.measured(c), c.verdict)]
        sizes.append((name, f"{size.figure.printed}, {parameters.figure.printed}", *cells))
        losses = loss.figure.printed, results.missing(run) if loss.measured is None else f"{loss.measured:.3f}"
        accuracies.append((name, accuracy.figure.printed, *results.scores(run), *losses, accuracy.verdict))
    counts = ("parameters printed", "counted", "verdict", "bytes printed", "of tensors", "verdict ")
    headers = ("network", "accuracy printed", "validation", "test", "loss printed", "validation loss", "verdict")
    yield Text("A printed size is that of a file; it is set against the bytes of the tensors in it.")
    yield Table(("network", "as printed", *counts), sizes, ("network", "verdict", "verdict "))
    yield Text("The distilled CNN's loss is its distillation loss, as printed; the other two are cross entropies.")
    yield Table(headers, accuracies, ("network", "verdict"))
    yield from results.why_far("small-resnet18", "student-cnn")
    yield from results.about_agreement("q1.")
    yield Text("What they are made of, layer by layer, on an image of 3 × 128 × 128:")
    for network, title, *_ in SUMMARY[:3]:
        yield structures.about(network, title)
        yield structures.layers(results.reproduction.solution, network, title)
    yield TRAINED
    yield training_table(results.reproduction, 1)
    yield from results.curves("curves-1", PRETRAINED, "small-resnet18", "student-cnn")
    yield Pictures([_sizes(results.reproduction.solution)])
    yield Text("What is concluded from it, and whether counting says so:")
    yield from _times_smaller(results)


def _times_smaller(results: Results) -> Iterator[Claim]:
    """ "About" is taken as within a tenth."""
    for claim, unit, times in (("size", "bytes", 8), ("parameters", "parameters", 10)):
        counts = [results.comparisons[f"q1.{key}.times_smaller.{unit}"] for key in ("dwpw", "cnn")]
        printed = " and ".join(f"{c.figure.value:g}" for c in counts)
        claimed = results.comparisons[f"q1.claim.{claim}"].figure.printed
        sentences = [f"The report: “{claimed}”; its own figures give {printed} times (contradiction 7)."]
        verdict = "not measured"
        if all(c.measured is not None for c in counts):
            verdict = "yes" if all(abs(c.measured / times - 1) <= 0.1 for c in counts) else "no"
            here = " and ".join(f"{c.measured:g}" for c in counts)
            sentences.append(f"Counted here: {here} times smaller. “About” {times} times is taken as within a tenth.")
        yield Claim("The report", results.conclusion(claim), verdict, "", sentences)


def _sizes(solution: Solution) -> Picture:
    """Of the networks that the solution can make, at the bits that it can store all of them with."""
    states: dict[str, Mapping[str, torch.Tensor]] = {}
    for name, title, *_ in SUMMARY:
        with suppress(Exception):  # a task that is not done yet; `hw7 summary` says which
            states[title] = NETWORKS[name](solution, 11).state_dict()
    stored = {32: list(states.values())}
    for bits in (16, 8):
        with suppress(Exception):
            stored[bits] = [quantized(solution, state, bits)[0] for state in states.values()]
    sizes = {bits: list(map(measure.file_bytes, files)) for bits, files in stored.items()}
    return plot_sizes(list(states), sizes)


# ---- question 2 ----


def _teachers(results: Results) -> Iterator[Block]:
    names, rows = (SCRATCH, PRETRAINED, "student-c", "student-d", "student-e", WEAK, "student-weak"), []
    for name in names:
        title, printed, verdict = EXPERIMENTS[name].title, "", "not in the report"
        if name == PRETRAINED:
            title = "b: teacher, ResNet-18 pretrained, fine-tuned"
        if figures := [key for key in EXPERIMENTS[name].figures if key.startswith("q2.")]:
            compared = [results.comparisons[figure] for figure in figures]
            printed = " or ".join(c.figure.printed for c in compared)
            verdict = compared[0].verdict
        rows.append((title, printed, *results.scores(name), verdict))
    yield _sizes_table(results, ("teacher", "q2.teacher"), ("student", "q2.student"))
    headers = ("run", "accuracy printed", "validation accuracy", "test accuracy", "verdict")
    yield Table(headers, rows, ("run", "verdict"))
    yield from results.why_far(SCRATCH)
    yield Text("± is one standard error of one accuracy on so many images:")
    yield Formula(formulas.standard_error())
    yield from results.about_agreement("q2.")
    yield structures.about("student_dw", "The student")
    yield structures.printed(results.reproduction.solution, "student_dw", "The student, as PyTorch prints it")
    yield TRAINED
    yield training_table(results.reproduction, 2)
    yield from results.curves("curves-2", *names)
    yield CONCLUDED
    yield from results.claims("2")


def _sizes_table(results: Results, *networks: tuple[str, str]) -> Table:
    """Parameters and kilobytes, printed beside counted."""
    rows = []
    for title, key in networks:
        compared = [results.comparisons[f"{key}.parameters"], results.comparisons[f"{key}.kilobytes"]]
        cells = [text for c in compared for text in (c.figure.printed, results.measured(c), c.verdict)]
        rows.append((title, *cells))
    headers = ("network", "parameters printed", "counted", "verdict", "size printed", "KB of tensors", "verdict ")
    return Table(headers, rows, ("network", "verdict", "verdict "))


# ---- question 3 ----


def _pruning(results: Results) -> Iterator[Block]:
    ladders = {rate: results.runs[f"prune-{rate}"]["steps"] for rate in RATES if f"prune-{rate}" in results.runs}
    student, solution = results.runs.get("student-net"), results.reproduction.solution
    yield _sizes_table(results, ("student before pruning", "q3.student"))
    yield _before_pruning(results)
    yield from results.about_agreement("q3.")
    yield structures.about("student_net", "The student")
    yield structures.printed(solution, "student_net", "The student, as PyTorch prints it")
    yield TRAINED
    yield training_table(results.reproduction, 3)
    yield from results.curves("curves-3", "student-net")
    epochs = results.comparisons["q3.pruning.epochs"].figure.printed
    yield Text(
        "A step of pruning ranks the channels of stages 3 to 6 by the size of their batch-norm scale (gamma), keeps "
        f"the largest, trains (the report: {epochs} epochs) and keeps the best epoch. After step s at keep rate r, a "
        "stage that had w₀ channels at first has not that share of its last width, but"
    )
    yield Formula(formulas.width())
    for rate in RATES:
        yield _ladder(results, rate, ladders.get(rate))
    if ladders:
        yield Pictures(plot_pruning(ladders, student))
    yield from results.without("line in the chart", ["student-net", *(f"prune-{rate}" for rate in RATES)])
    if all(rate in ladders for rate in KEPT_ALIKE):
        first, second = ({step["parameters"]: step for step in ladders[rate]} for rate in KEPT_ALIKE)
        gains = {n: 100 * (first[n]["accuracy"] - second[n]["accuracy"]) for n in first if n in second}
        rows = [(f"{n:,}", percent(first[n]), percent(second[n]), f"{gains[n]:+.1f}") for n in gains]
        yield Text("Where the two slower ladders meet, validation accuracy:")
        yield Table(("parameters", *(f"keep rate {rate}" for rate in KEPT_ALIKE), "points"), rows)
    yield CONCLUDED
    yield from results.claims("3")
    yield Text("The course's quantization, of the same student:")
    yield _quantization(results)
    yield from results.claims("course")


def _before_pruning(results: Results) -> Table:
    """Question 3's three trained figures."""
    rows = []
    for figure in ("q3.teacher.accuracy", "q3.student.accuracy", "q3.student.loss"):
        compared = results.comparisons[figure]
        here = results.measured(compared)
        if compared.figure.unit == "accuracy" and compared.measured is not None:
            here = with_error(compared.measured, results.runs[results.measured_by[figure]]["images"])
        rows.append((compared.figure.what, compared.figure.printed, here, compared.verdict))
    return Table(("figure", "printed", "here", "verdict"), rows, ("figure", "verdict"))


def _ladder(results: Results, rate: float, steps: list[dict] | None) -> Folded:
    """A keep rate's steps: parameters printed, counted, and what a run has measured."""
    compared, missing = results.comparisons[f"q3.ladder.{rate}"], results.missing(f"prune-{rate}")
    printed = compared.figure.value
    assert isinstance(printed, tuple)
    counted = compared.measured or [None] * len(printed)
    rows = []
    for number, (there, here) in enumerate(zip(printed, counted, strict=False)):
        scores = (percent(steps[number]), f"{steps[number]['loss']:.3f}") if steps else (missing, "")
        verdict = "cannot be counted" if here is None else "exact" if there == here else "differs"
        rows.append((str(number + 1), f"{there:,}", "" if here is None else f"{here:,}", verdict, *scores))
    end = f"{percent(steps[-1])} with {steps[-1]['parameters']:,} parameters" if steps else missing
    headers = ("step", "parameters of the report", "counted", "verdict", "validation accuracy", "validation loss")
    summary = f"Keep rate {rate}: {len(printed)} steps, {compared.verdict}; after the last: {end}"
    return Folded(summary, Table(headers, rows, ("verdict",)))


def _quantization(results: Results) -> Table:
    rows, whole = [], results.runs.get("student-net", {}).get("tensor_bytes")
    networks = (("student-net", 32, "float32"), ("quantized-16", 16, "float16"), ("quantized-8", 8, "8bit"))
    for name, bits, key in networks:
        size = results.runs[name].get("file_bytes", whole) if name in results.runs else None
        sizes = results.missing(name) if size is None else f"{size:,}", f"{size / whole:.3f}" if size and whole else ""
        compared = [results.comparisons[f"course.quantization.{key}.{what}"] for what in ("bytes", "accuracy")]
        size_printed, accuracy_printed = (c.figure.printed for c in compared)
        rows.append((f"{bits} bit", size_printed, *sizes, accuracy_printed, *results.scores(name)))
    headers = ("weights", "bytes printed", "bytes", "share", "accuracy printed", "validation accuracy", "test accuracy")
    return Table(headers, rows, headers[:1])


# ---- question 4 ----


def _convolutions(results: Results) -> Iterator[Block]:
    names, rows = ("plain-1mb", "depthwise-1mb", "grouped-1mb"), []
    for name in names:
        experiment, counts = EXPERIMENTS[name], ("cannot be counted", "", "")
        with suppress(Exception):  # task 1.1 is not done yet; counting needs no run
            network = NETWORKS[experiment.network](results.reproduction.solution, 11)
            size, macs = measure.tensor_bytes(network) / 2**20, measure.macs(network) / 1e6
            counts = f"{measure.parameters(network):,}", f"{size:.2f} MB", f"{macs:.1f} M"
        rows.append((experiment.title, *counts, *results.scores(name)))
    headers = ("network", "parameters", "size", "MACs at 128 px", "validation accuracy", "test accuracy")
    yield Text(
        "The course's question, not this report's: equal depth and strides, three kinds of convolution, near 1 MB."
    )
    yield Table(headers, rows, headers[:1])
    yield TRAINED
    yield training_table(results.reproduction, 4)
    yield from results.curves("curves-4", *names)
