"""The measured part of docs/results/gpu.md, made anew from the logs of benchmarks/gpu.sh.

    python benchmarks/gpu_page.py OUT [OUT ...] [--page docs/results/gpu.md] [--toy]

Only what stands between the page's two marks is written: the runs, the table of figures, the rates of the networks. A
row is found by its first cell, and names the run that it comes from. What no OUT has keeps the row that it has; of what
several have, the last counts. A log of toy size is refused, for nothing is measured there; --toy takes it.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "gpu.md"
BEGIN = "<!-- from here on by benchmarks/gpu_page.py -->"
END = "<!-- up to here by benchmarks/gpu_page.py -->"
TRAINING_IMAGES = 9_866
STUDENT = "274,763 student, with teacher"

Cells = list[str]


@dataclass
class Run:
    """What one call of the script said, part by part."""

    what: str  # machine, versions, date and command, as the page names them
    parts: dict[str, str] = field(default_factory=dict)

    def found(self, part: str, pattern: str) -> list[str]:
        """What the pattern's group is in each line of a part that the pattern is found in."""
        return re.findall(pattern, self.parts.get(part, ""), re.MULTILINE)

    def rates(self) -> dict[str, Cells]:
        """The rows of the networks that were measured, by their title."""
        rows = [cells(line) for line in self.parts.get("rates", "").splitlines() if line.startswith("| ")]
        return {row[0]: row for row in rows if len(row) == 12 and row[1].isdecimal()}


def read_log(text: str) -> Iterator[Run]:
    """The calls in a log, in their order."""
    for whole in re.split(r"^== run on ", text, flags=re.MULTILINE)[1:]:
        head, _, rest = whole.partition("\n")
        machine, _, command = head.partition(": ")
        run = Run(f"{machine}: `{command}`")
        for part in re.split(r"^== (?=\w+, from )", rest, flags=re.MULTILINE)[1:]:
            name, _, said = part.partition(", from ")
            run.parts[name] = said
        yield run


# ---- the figures -----------------------------------------------------------------------------------------------------


def tests(run: Run) -> str | None:
    summary = run.found("tests", r"^((?:\d+ \w+, )*\d+ \w+) in [\d.]+s")
    return summary[-1] if summary else None


def epoch(network: str) -> Callable[[Run], str | None]:
    def seconds(run: Run) -> str | None:
        row = run.rates().get(network)
        return f"{TRAINING_IMAGES / value(row[2]):.2f} s, from {row[2]} images/s" if row else None

    return seconds


def span(column: int, unit: str = "", digits: int = 1) -> Callable[[Run], str | None]:
    """From the least to the most of one column of the networks' rates."""

    def least_and_most(run: Run) -> str | None:
        numbers = [value(row[column]) for row in run.rates().values() if row[column] != "not measured"]
        return f"{min(numbers):.{digits}f} to {max(numbers):.{digits}f}{unit}" if numbers else None

    return least_and_most


def pictures(run: Run) -> str | None:
    seconds = run.found("pictures", r"^[\d,]+ pictures of \d+ pixels: ([\d.]+) s$")
    return f"{seconds[-1]} s" if seconds else None


def minutes_of_full(run: Run) -> str | None:
    minutes = run.found("rates", r"^\| this project +\| +([\d,]+\.\d) \|$")
    whole = run.found("full", r"--profile full ") and run.found("full", r"^== full ended with code 0$")
    told = "run whole" if whole else "not run whole"
    return f"{told}; its epochs take {minutes[-1]} min one after another at the rates measured" if minutes else None


def side_by_side(run: Run) -> str | None:
    lines = run.found("kernels", r"(\d+ side by side: [\d,]+) images/s in all$")
    rates = {int(count): value(rate) for count, rate in (line.split(" side by side: ") for line in lines)}
    told = [f"{count}: {rate / rates[1]:.2f} times the images a second" for count, rate in rates.items() if count > 1]
    return "; ".join(told) or None


FIGURES: dict[str, Callable[[Run], str | None]] = {
    "the tests of what runs on a GPU": tests,
    "ResNet-18, an epoch of 9,866 images at 128 px": epoch("ResNet-18"),
    "274,763 student with its teacher, an epoch": epoch(STUDENT),
    "augmentation's share of an epoch": span(8, " %"),
    "times the usual pipeline with 16 workers": span(6),
    "share of the bound by bytes and by operations": span(11, " %", 0),
    "50,000 pictures of `plates` at 128 px": pictures,
    "the whole of `full` on `plates`": minutes_of_full,
    "several students at a time against one": side_by_side,
}


# ---- the page --------------------------------------------------------------------------------------------------------


def cells(line: str) -> Cells:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def value(cell: str) -> float:
    """25,781 or 6.3 %"""
    return float(cell.removesuffix("%").replace(",", ""))


def generated(old: str, runs: list[Run]) -> str:
    """What stands between the marks, with what these runs have in place of what it had."""
    named = re.findall(r"^\d+\. (.*)$", old, re.MULTILINE)
    figures, rates = ([cells(line) for line in block.splitlines()] for block in re.findall(r"(?:^\|.*\n)+", old, re.M))
    for run in runs:
        measured = {title: cell for title, figure in FIGURES.items() if (cell := figure(run))}
        networks = run.rates()
        if not measured and not networks:
            continue
        if run.what not in named:
            named.append(run.what)
        number = str(named.index(run.what) + 1)
        for row in figures:
            row[2:] = [measured[row[0]], number] if row[0] in measured else row[2:]
        for place, row in enumerate(rates):
            rates[place] = [*networks[row[0]], number] if row[0] in networks else row
    lines = (f"{number}. {what}" for number, what in enumerate(named, 1))
    tables = ("\n".join(f"| {' | '.join(row)} |" for row in table) for table in (figures, rates))
    return "\n" + "\n\n".join(["\n".join(lines), *tables]) + "\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outs", type=Path, nargs="+", metavar="OUT")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--toy", action="store_true", help="take logs of toy size, to see that it works")
    options = parser.parse_args()
    runs = [run for out in options.outs for run in read_log((out / "log.txt").read_text(encoding="utf-8"))]
    if not options.toy and (toys := [run.what for run in runs if "no GPU" in run.what]):
        parser.error(f"nothing is measured at toy size (--toy takes it): {toys[0]}")
    before, begin, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end:
        parser.error(f"{options.page} lacks the marks that what is measured stands between: {BEGIN} and {END}")
    options.page.write_text(f"{before}{begin}\n{generated(old, runs)}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
