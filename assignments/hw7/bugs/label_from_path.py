"""Bug 2: the pictures are the same, and in another folder their labels are others.

Images are named `{label}_{id}.jpg`. Run this file: it prints the labels of eleven pictures, one of each class, in two
folders. Fix `label_of`; `pytest -m bugs` tells whether you have.
"""

import re
from pathlib import Path

NUMBER = re.compile(r"\d+")


def label_of(path: Path) -> int:
    """The label of an image named `{label}_{id}.jpg`, wherever it lies."""
    return int(NUMBER.findall(str(path))[1])  # in "food-11/training/3_12.jpg" the second number is the label


if __name__ == "__main__":
    for folder in ("food-11/training", "hw7/food-11/training"):
        labels = [label_of(Path(folder) / f"{label}_{100 + label}.jpg") for label in range(11)]
        print(f"{folder}: labels {labels}")
