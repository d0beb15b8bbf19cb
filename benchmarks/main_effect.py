"""The report's main effect over several seeds: is a distilled student better than the same student on labels alone?

    python benchmarks/main_effect.py --out out/effect --seeds 0 1 2 [--data plates] [--profile quick] [--jobs 2]

One reproduction a seed, in OUT/SEED, each in a process of its own; killed, the same command goes on. Prints a Markdown
table: a row for each run of question 2, then each distilled student's gain over the student without a teacher, seed by
seed. Means come with the standard error of the mean over the seeds. With --jobs 2 two seeds run at a time, each on its
share of the cores.
"""

import argparse
import math
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tabulate import tabulate

ROWS = ("teacher-pretrained", "teacher-scratch", "teacher-weak", "student-c", "student-d", "student-e", "student-weak")
ALONE = "student-c"


def reproduce(seed: int, data: str, profile: str, out: Path, threads: int) -> dict[str, Any]:
    """The results of one seed. Heavy imports wait until the process has its number of threads."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from hw7.experiments import Reproduction
    from hw7.solution import load_solution

    def say(line: str) -> None:
        print(f"seed {seed} {line}", file=sys.stderr, flush=True)

    return Reproduction(data, profile, out / str(seed), load_solution(), seed=seed, say=say).run(ROWS)


def row(name: str, values: list[float]) -> list[str]:
    """Percentages: each seed's, their mean, and the standard error of the mean."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return [name, *(f"{100 * v:.1f}" for v in values), f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default="plates")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()

    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    one = partial(reproduce, data=options.data, profile=options.profile, out=options.out, threads=threads)
    with ProcessPoolExecutor(options.jobs) as pool:
        results = [result["experiments"] for result in pool.map(one, options.seeds)]
    for what in ("accuracy", "test_accuracy"):
        values = {name: [run[name][what] for run in results] for name in ROWS}
        gains = {
            f"{name} − {ALONE}": [a - b for a, b in zip(values[name], values[ALONE], strict=True)]
            for name in ROWS
            if name.startswith("student") and name != ALONE
        }
        table = [row(name, numbers) for name, numbers in (values | gains).items()]
        headers = [what.replace("_", " ") + ", %", *(f"seed {seed}" for seed in options.seeds), "mean ± standard error"]
        print(tabulate(table, headers=headers, tablefmt="github", disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
