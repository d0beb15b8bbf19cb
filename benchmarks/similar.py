"""How alike independent submissions are, and disguised copies, by `hw7-grade similar`: docs/similar.md has the figures.

    python benchmarks/similar.py [PAIRS]

tests/alike.py puts independent pairs together and disguises copies. A copy of a chapter is an independent submission
with one of its four modules copied, in disguise.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from alike import CHAPTERS, GIVEN, Files, copied, independent_pair

from autograder.intake import similar
from autograder.intake.submission import Submission

WHOLE = {
    "copy: names, numbers, texts, comments, layout, order": 0,
    "the same, and every 5th statement is one that does nothing": 5,
    "the same, and every 2nd": 2,
}
CLASS = 999


def pairs(seed: int) -> Iterator[tuple[str, Files, Files]]:
    """What a pair is, and the pair."""
    first, second = independent_pair(seed)
    yield "independent", first, second
    for what, every in WHOLE.items():
        yield what, first, copied(first, seed, every)
    for chapter in CHAPTERS:
        name = f"solution/{chapter}.py"
        yield f"copy of {chapter} alone", first, second | {name: copied(first, seed)[name]}


def measured(first: Files, second: Files) -> tuple[float, float, int]:
    """The larger and the smaller share, and the tokens, of a pair; 0 where it has nothing in common."""
    found = similar.find_similar([Submission("a", first), Submission("b", second)], GIVEN, 0.0, least=1).pairs
    return (max(found[0].shares), min(found[0].shares), found[0].tokens) if found else (0.0, 0.0, 0)


def main(number: int = 100) -> None:
    results: dict[str, list[tuple[float, float, int]]] = {}
    for seed in range(number):
        for what, first, second in pairs(seed):
            results.setdefault(what, []).append(measured(first, second))
    rows = []
    for what, each in results.items():
        largest, smallest, tokens = np.array(each).T
        shares = [f"{100 * value:.0f}" for value in (largest.min(), np.median(largest), largest.max(), smallest.max())]
        rows.append([what, len(each), *shares, f"{tokens.min():.0f} to {tokens.max():.0f}"])
    headers = ["pairs", "number", "least", "median", "most", "most of the smaller share", "tokens in common"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    files = [each for seed in range(CLASS // 2 + 1) for each in independent_pair(seed)][:CLASS]
    start = time.perf_counter()
    found = similar.find_similar([Submission(str(n), each) for n, each in enumerate(files)], GIVEN)
    print(f"\n{CLASS} submissions: {time.perf_counter() - start:.0f} s, {len(found.pairs)} pairs")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
