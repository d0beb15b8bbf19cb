"""The report's ledger: every figure of the report to reproduce, as it was printed, read from the rows of ledger.toml.

The ledger keeps what the report says. Where the report contradicts itself, a row names the contradiction's number, and
nothing is corrected. Its conclusions stand there, too, and what of the report is not reproduced, with the reason.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hw7 import HW7Error

Scalar = int | float | str
OBTAINED = ("counting", "training", "given")


@dataclass(frozen=True)
class Figure:
    """One figure of the report.

    id: for example "q1.teacher.parameters". question: "1", "2", "3", or "data", "training" (what all share),
    "course" (its rules).
    value: a number, a word, or several of them; accuracies and shares as fractions. unit: "parameters", "bytes", ….
    obtained: "counting" (from a network's structure, exact), "training" (from a run), "given" (a fact or a setting).
    printed: what the report printed; empty where it did not, and the figure was counted for this project.
    contradictions: the numbers of the report's contradictions with itself that the figure is part of.
    note: what they are, in words; empty where there are none.
    """

    id: str
    question: str
    what: str
    value: Scalar | tuple[Scalar, ...]
    unit: str
    obtained: str
    printed: str
    contradictions: tuple[int, ...]
    note: str

    @property
    def number(self) -> float:
        """The value, of a figure that is one number."""
        assert isinstance(self.value, int | float)
        return self.value


@dataclass(frozen=True)
class Contradiction:
    """Where the report contradicts itself. ids: the figures concerned."""

    number: int
    text: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Conclusion:
    """What the report concludes, in short; `findings` says how a run is asked about it."""

    id: str
    question: str
    text: str


@dataclass(frozen=True)
class Missing:
    """What of the report is not reproduced on any machine, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Ledger:
    """Figures and conclusions by id, in the report's order; contradictions by number."""

    figures: dict[str, Figure]
    contradictions: list[Contradiction]
    conclusions: dict[str, Conclusion]
    missing: list[Missing]


def load() -> dict[str, Figure]:
    """All figures by id, in the report's order."""
    return whole().figures


def whole() -> Ledger:
    """All that the ledger holds."""
    return parse(_text())


def parse(text: str) -> Ledger:
    """What a ledger's TOML holds. Raises HW7Error, naming the entry, where it breaks a rule."""
    try:
        ledger = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HW7Error(f"the ledger is not TOML: {error}") from error
    _check("its top level", ledger, dict.fromkeys(("contradiction", "conclusion", "missing", "section"), list))

    texts: dict[int, str] = {}
    for position, entry in enumerate(ledger["contradiction"], start=1):
        _check(f"contradiction {position}", entry, {"number": int, "text": str})
        if entry["number"] != position:
            raise HW7Error(f"the ledger, contradiction {position}: its number is {entry['number']}")
        texts[position] = entry["text"]

    figures: dict[str, Figure] = {}
    for number, section in enumerate(ledger["section"], start=1):
        _check(f"section {number}", section, {"question": str, "figures": list})
        for row, entry in enumerate(section["figures"], start=1):
            figure = _figure(f"question {section['question']}, row {row}", section["question"], entry, texts)
            if figure.id in figures:
                raise HW7Error(f"the ledger has {figure.id} twice")
            figures[figure.id] = figure

    concerned = {n: tuple(figure.id for figure in figures.values() if n in figure.contradictions) for n in texts}
    if unused := [n for n, ids in concerned.items() if not ids]:
        raise HW7Error(f"the ledger, contradiction {unused[0]}: no figure names it")
    for kind, columns in (("conclusion", ("id", "question", "text")), ("missing", ("what", "why"))):
        for position, entry in enumerate(ledger[kind], start=1):
            _check(f"{kind} {position}", entry, dict.fromkeys(columns, str))
    conclusions = {entry["id"]: Conclusion(**entry) for entry in ledger["conclusion"]}
    if len(conclusions) < len(ledger["conclusion"]):
        raise HW7Error("the ledger has a conclusion twice")
    contradictions = [Contradiction(n, text, concerned[n]) for n, text in texts.items()]
    return Ledger(figures, contradictions, conclusions, [Missing(**entry) for entry in ledger["missing"]])


def _figure(where: str, question: str, entry: Any, texts: dict[int, str]) -> Figure:
    if isinstance(entry, dict) and isinstance(entry.get("id"), str):
        where = entry["id"]
    columns = {"id": str, "value": int | float | str | list, "unit": str, "obtained": str, "printed": str, "what": str}
    _check(where, entry, columns, {"contradictions": list})
    value, numbers = entry["value"], entry.get("contradictions", [])
    if isinstance(value, list):
        if not value or any(isinstance(item, bool) or not isinstance(item, Scalar) for item in value):
            raise HW7Error(f"the ledger, {where}: value must hold numbers or words, not {value!r}")
        value = tuple(value)
    if entry["obtained"] not in OBTAINED:
        raise HW7Error(f"the ledger, {where}: obtained is {entry['obtained']!r}, not one of {', '.join(OBTAINED)}")
    if unknown := [number for number in numbers if number not in list(texts)]:
        raise HW7Error(f"the ledger, {where}: there is no contradiction {unknown[0]!r}")
    note = " ".join(texts[number] for number in numbers)
    return Figure(**entry | {"question": question, "value": value, "contradictions": tuple(numbers), "note": note})


def _check(where: str, entry: Any, required: dict[str, Any], optional: dict[str, Any] | None = None) -> None:
    """Raises HW7Error unless the entry is a table with exactly these keys (or the optional ones), of these types."""
    if not isinstance(entry, dict):
        raise HW7Error(f"the ledger, {where}: must be a table, not {entry!r}")
    types = required | (optional or {})
    if missing := required.keys() - entry.keys():
        raise HW7Error(f"the ledger, {where}: misses {', '.join(sorted(missing))}")
    if unknown := entry.keys() - types.keys():
        raise HW7Error(f"the ledger, {where}: does not know {', '.join(sorted(unknown))}")
    for key, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, types[key]):
            raise HW7Error(f"the ledger, {where}: {key} cannot be {value!r}")


def _text() -> str:
    return resources.files("hw7.report").joinpath("ledger.toml").read_text(encoding="utf-8")
