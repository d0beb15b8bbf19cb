"""The report's findings over several seeds: each difference with its interval, and whether it came out.

    python benchmarks/findings.py --out out/findings --seeds 0 1 2 [--data plates] [--profile full] [--only ID,ID]
                                  [--precision bfloat16 float32] [--jobs 1] [--minutes 9]

One reproduction a seed and precision, in OUT/PRECISION-SEED. Killed, or stopped by --minutes (exit code 75), the same
command goes on. Prints Markdown tables of the precisions that have all seeds: the accuracy of every run on test images,
which chose no epoch and no network, and on the validation images that did; then the findings, each with its measure
over the seeds, its bound, and whether it came out; and, with two precisions, their difference for every run.

Means come with their standard error and with the two-sided 90 % interval of Student's t. A finding came out ("yes")
where its whole interval is at or above its bound, did not ("no") where the whole interval is below, and is "undecided"
otherwise, as it is with one seed, which has no interval. So each "yes" is wrong in at most 5 of 100 cases in which the
true mean over all seeds is below the bound, and each "no" likewise, as far as seeds vary like a normal distribution;
of nine findings, one such error is no surprise. Three seeds decide little: their interval reaches 2.92 standard errors
to either side.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from tabulate import tabulate

from hw7.report.experiments import EXPERIMENTS, with_needs
from hw7.report.findings import FINDINGS, Finding, Runs, verdict
from hw7.support.files import read_json

HW7 = (sys.executable, "-c", "from hw7.cli import cli; cli()")  # installed or not
# The 95 % quantile of Student's t at 1 to 10 degrees of freedom: NIST/SEMATECH e-Handbook of Statistical Methods,
# 1.3.6.7.2. More seeds than eleven get the last, so that their interval is a little too wide.
T_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean, and its standard error: nan for one value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def interval(values: list[float]) -> tuple[float, float]:
    """The two-sided 90 % interval of the mean, by Student's t: one point for equal values, everything for one value."""
    if len(values) == 1:
        return -math.inf, math.inf
    mean, error = mean_and_error(values)
    margin = T_95[min(len(values) - 1, len(T_95)) - 1] * error
    return mean - margin, mean + margin


def row(name: str, values: list[float], digits: int = 1) -> list[str]:
    mean, error = mean_and_error(values)
    low, high = interval(values)
    cells = [name, *(f"{value:.{digits}f}" for value in values), f"{mean:.{digits}f} ± {error:.{digits}f}"]
    return [*cells, f"{low:.{digits}f} to {high:.{digits}f}" if len(values) > 1 else "-"]


def judged(finding: Finding, seeds: list[Runs], accuracy: str) -> list[str]:
    if any(need not in runs or accuracy not in runs[need] for need in finding.needs for runs in seeds):
        return [finding.what, f">= {finding.least:g}", *("-" for _ in seeds), "-", "-", "not measured"]
    values = [finding.measure(runs, accuracy) for runs in seeds]
    name, *cells = row(finding.what, values, 2)
    return [name, f">= {finding.least:g}", *cells, verdict(*interval(values), finding.least)]


def tables(results: dict[str, list[Runs]], seeds: list[int]) -> Iterable[str]:
    """`results`: for each precision, the runs of each seed."""
    of_seeds = [*(f"seed {seed}" for seed in seeds), "mean ± standard error", "90 % interval"]

    def table(headers: list[str], rows: list[list[str]]) -> str:
        return tabulate(rows, headers, tablefmt="github", disable_numparse=True) + "\n"

    for precision, runs in results.items():
        names = [name for name in runs[0] if all(name in each for each in runs)]
        for accuracy, on in (("test_accuracy", "test"), ("accuracy", "validation")):
            measured = [name for name in names if all(accuracy in each[name] for each in runs)]
            rows = [row(name, [100 * each[name][accuracy] for each in runs]) for name in measured]
            yield table([f"{precision}, {on} accuracy, %", *of_seeds], rows)
            headers = [f"{precision}, on {on} images, points", "bound", *of_seeds, "came out"]
            yield table(headers, [judged(finding, runs, accuracy) for finding in FINDINGS])
    if len(results) > 1:
        (first, ours), (second, theirs) = list(results.items())[:2]
        common = [name for name in ours[0] if all(name in runs for runs in (*ours, *theirs))]
        rows = []
        for name in common:
            key = "test_accuracy" if "test_accuracy" in ours[0][name] else "accuracy"
            rows.append(row(name, [100 * (a[name][key] - b[name][key]) for a, b in zip(ours, theirs, strict=True)], 2))
        yield table([f"{first} − {second}, points", *of_seeds], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default="plates")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--only", help="experiments, with commas; default: all of the report")
    parser.add_argument("--precision", nargs="+", default=["auto"], help="one, or two to compare")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, help="experiments at a time")
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args()

    until = time.monotonic() + 60 * options.minutes
    wanted = set(with_needs(options.only.split(",") if options.only else EXPERIMENTS))
    results: dict[str, list[Runs]] = {}
    code = 0
    for precision, seed in product(options.precision, options.seeds):
        out = options.out / f"{precision}-{seed}"
        command = [*HW7, "reproduce", "--data", options.data, "--out", out]
        choices = {"profile": options.profile, "seed": seed, "device": options.device, "precision": precision}
        choices |= {"only": options.only, "jobs": options.jobs}
        if math.isfinite(until):
            choices["minutes"] = max(0.0, (until - time.monotonic()) / 60)
        command += [part for name, value in choices.items() if value is not None for part in (f"--{name}", str(value))]
        runs = read_json(out / "results.json")["experiments"] if (out / "results.json").exists() else {}
        if not runs.keys() | {"pretraining"} >= wanted:  # which Food-11 does without
            print(f"{precision}, seed {seed}", file=sys.stderr, flush=True)
            code = subprocess.run(command, stdout=sys.stderr).returncode
            if code:
                break
            runs = read_json(out / "results.json")["experiments"]
        results.setdefault(precision, []).append(runs)
    complete = {precision: runs for precision, runs in results.items() if len(runs) == len(options.seeds)}
    for text in tables(complete, options.seeds):
        print(text)
    sys.exit(code)


if __name__ == "__main__":
    main()
