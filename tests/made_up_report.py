"""Report pages of results that are made up, so that every cell is known; and a reader of what stands on them."""

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch

from hw7.data.food11 import FOOD11_CLASSES
from hw7.data.source import Split
from hw7.report import ledger
from hw7.report.experiments import EXPERIMENTS
from hw7.report.page import write_report
from hw7.report.reproduce import Reproduction
from hw7.solution import Solution, load_solution
from hw7.support.files import write_json

LADDERS = {rate: ledger.load()[f"q3.ladder.{rate}"].value for rate in (0.975, 0.95, 0.9)}
PARAMETERS = {"teacher-pretrained": 11_182_155, "student-net": 256_779, "student-c": 274_763}


def split(name: str, classes: tuple[str, ...] = FOOD11_CLASSES, size: int = 8) -> Split:
    """Two images a class; class c is as red as its number."""
    labels = torch.arange(2 * len(classes)) % len(classes)
    images = torch.zeros(len(labels), 3, size, size, dtype=torch.uint8)
    images[:, 0] = (10 * labels + 5)[:, None, None]
    return Split(images, labels, classes, "made up", name)


def results(ids: list[str], accuracies: dict[str, float]) -> dict[str, dict[str, Any]]:
    """A result for each of these experiments, all alike but for what is given."""
    made: dict[str, dict[str, Any]] = {}
    for name in ids:
        result = {
            "accuracy": accuracies.get(name, 0.75), "loss": 0.625, "images": 3430, "distillation_loss": 4.125,
            "parameters": PARAMETERS.get(name, 100_000), "tensor_bytes": 4_000_000, "file_bytes": 1_000_000,
            "best_epoch": 2, "epochs": 3, "test_loss": 0.6,
            "test_accuracy": accuracies.get(name, 0.75) - 0.0375, "test_images": 3430,
        }  # fmt: skip
        if keep_rate := EXPERIMENTS[name].keep_rate:
            ladder = LADDERS[keep_rate]
            result["steps"] = [result | {"parameters": parameters, "widths": [1] * 8} for parameters in ladder]
        made[name] = result
    return made


class Reader(HTMLParser):
    """Tables as rows of text, the addresses in the page, which elements it has, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: dict[str, list[str]] = {"src": [], "href": []}
        self.elements: set[str] = set()
        self.words: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            if name in self.addresses:
                self.addresses[name].append(value or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.inside:
            self.rows[-1][-1] += data


@dataclass
class Pages:
    """What a report left in its folder."""

    out: Path
    html: str
    markdown: str

    @property
    def read(self) -> Reader:
        return Reader(self.html)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.read.words).split())

    def cells(self, start: str) -> list[str]:
        """Of every row, in any table, whose first cell starts so."""
        return [cell for row in self.read.rows if row[0].strip().startswith(start) for cell in row]


EPOCHS = tuple(
    {"loss": 1.0, "validation_loss": loss, "validation_accuracy": a, "learning_rate": 1e-3, "optimizer": "adamw"}
    for a, loss in ((0.5, 1.5), (0.75, 0.625), (0.7, 0.75))
)


def made_up_report(
    out: Path,
    source: str = "plates",
    profile: str = "quick",
    ids: list[str] | None = None,
    asked: list[str] | None = None,
    own: Solution | None = None,
    accuracies: dict[str, float] | None = None,
    classes: tuple[str, ...] = FOOD11_CLASSES,
    failed: tuple[str, ...] = (),
    history: tuple[dict[str, Any], ...] = EPOCHS,
    changes: dict[str, dict[str, Any]] | None = None,
) -> Pages:
    """Writes the page of these experiments (None: all) into `out`. changes: what to set in their results, by id."""
    made = Reproduction(source, profile, out, own or load_solution(), say=lambda line: None)
    made.asked, made.failed = asked or [], list(failed)
    made._splits = {name: split(name, classes) for name in ("training", "validation", "testing")}
    for name, result in results(list(EXPERIMENTS) if ids is None else ids, accuracies or {}).items():
        write_json(made.directory(name) / "result.json", result | (changes or {}).get(name, {}))
        write_json(made.directory(name) / "run.json", {"history": history, "best_epoch": 1, "seconds": 60.0})
    written = write_report(made)
    assert written == out / "report.html"
    return Pages(out, written.read_text("utf-8"), (out / "report.md").read_text("utf-8"))
