"""How much accuracy can be won by resubmitting, from what the grader tells of each run: docs/grading.md has the table.

    python benchmarks/resubmissions.py

The attacker has a network with 65 % on 1,000 hidden images, and doubts about 400 of them, where its first guess is
right in 45 % and its second in 35 %. In each run it gives the second guess for a random half of these. What it is told
is an equation for what the second guesses gain; the best linear estimate (LMMSE) from all of these says which to keep.

Where hits are rounded, the attacker brings them to the edge of a step first, by wrong answers to other images: a few
runs, not counted here. Nor is the work of finding out how what is told follows the hits (`slope`, `noise`).
"""

import sys

import numpy as np
from tabulate import tabulate

IMAGES, DOUBTFUL, FIRST, SECOND = 1000, 400, 0.45, 0.35
TOLD = {"exact hits": 1, "whole percents": 10, "steps of 5 points, or passed and not passed": 50}  # steps, in hits
RUNS = (10, 30, 100, 300, 1000)
TRIALS = 20


def won(step: int, runs: int, draw: np.random.Generator) -> float:
    """Percent of all images that the attacker has more right after so many runs."""
    luck = draw.random(DOUBTFUL)
    gain = np.where(luck < FIRST, -1.0, np.where(luck < FIRST + SECOND, 1.0, 0.0))  # of each second guess
    mean, variance = SECOND - FIRST, FIRST + SECOND - (SECOND - FIRST) ** 2
    switched = np.where(draw.random((runs, DOUBTFUL)) < 0.5, 0.5, -0.5)
    hits = switched @ gain
    told = np.floor((hits - np.floor(np.median(hits))) / step) * step
    slope = np.cov(told, hits)[0, 1] / hits.var(ddof=1)
    noise = max(float(np.var(told - slope * hits)), 1e-6)
    surprise = told - told.mean() - slope * mean * (switched - switched.mean(axis=0)).sum(axis=1)
    covariance = slope**2 * variance * switched @ switched.T + noise * np.eye(runs)
    estimate = mean + slope * variance * switched.T @ np.linalg.solve(covariance, surprise)
    return float(gain[estimate > 0].sum()) / IMAGES * 100


def table() -> str:
    rows = []
    for name, step in TOLD.items():
        draw = np.random.default_rng(0)
        means = [np.mean([won(step, runs, draw) for _ in range(TRIALS)]) for runs in RUNS]
        rows.append([name, *(f"{mean:.1f}" for mean in means)])
    headers = ["told of each run", *(f"{runs:,} runs" for runs in RUNS)]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
