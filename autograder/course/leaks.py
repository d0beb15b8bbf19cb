"""A scan for leaks: every file that students receive is looked through for what was stripped.

Two things count as given away:

    a line       of a solution, word for word, wherever it stands: a comment, a string, a notebook's output or metadata.
                 Spaces, quotes and comment signs do not matter. A line below 6 tokens (`else:`) says nothing.
    a passage    10 or 14 tokens in a row that say 3 things or more (names called, reached, passed or quoted, numbers
                 above 1), whatever its variables are called and however it is broken into lines.

What the docstrings, signatures and broken code of the assignment itself say is no secret. Everything else that looks
alike is listed here by hand, `GIVEN`, with its reason; an entry that is no longer needed is an error, so that the list
stays short.
"""

import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hw7 import HW7Error
from hw7.support.words import counted

LINE, PASSAGES, SAYINGS = 6, (10, 14), 3  # tokens of a line, of passages; what a passage says at least
SHOWN = 40
FORBIDDEN = ("reference_solutions", "autograder", "answers", "weights.safetensors", "__pycache__")

# Common words of PyTorch, in any file.
IDIOMS = (
    "with torch.no_grad():",
    "return loss.detach()",
    "for name, tensor in state_dict.items()",
    "random = torch.Generator().manual_seed(0)",
    "nn.ReLU(),",
    "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear",
    "optimizer = torch.optim.SGD(network.parameters()",
    "optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()",
)

# What the library needs and a solution happens to need as well: file -> code that may stand there.
GIVEN: Mapping[str, Sequence[str]] = {
    # An example in numbers, which the reference's own test uses, too.
    "docs/handout.md": ("kd_loss(student, teacher, label, 2.0, alpha).item()",),
    "assignments/hw7/tests/test_2_1_kd_loss.py": ("kd_loss(student, teacher, label, 2.0, alpha).item()",),
    # The same layer, of a network that is given for question 4.
    "hw7/models.py": (
        "conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)",
        "nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())",
    ),
    # Contiguous copies, as safetensors wants them.
    "hw7/measure.py": ("tensor.detach().cpu().clone(memory_format=torch.contiguous_format)",),
    "hw7/checks/calls/contract.py": ("tensor.clone(memory_format=torch.contiguous_format)",),
    "hw7/checks/tensors.py": (
        # A vector that is cut into tensors.
        "vector[position : position + tensor.numel()].reshape(tensor.shape)",
        # Names of tensors that go through a pipe as bytes: not a state_dict's dtypes and blocks.
        "torch.frombuffer(bytearray(json.dumps(list(names)).encode()), dtype=torch.uint8)",
        "json.loads(bytes(names.tolist()))",
        # A network of no use, that `finetune` returns.
        "StudentNet(network.widths, network.fc.out_features).to(network.fc.weight.dtype)",
    ),
    "hw7/checks/compare.py": ("str(tensor.dtype).removeprefix('torch.')",),
}  # fmt: skip

_TOKEN = re.compile(r"[^\W\d]\w*|\d[\d_]*(?:\.\d+)?(?:e-?\d+)?|\*\*|//|->|[<>=!:+\-*/]=|[^\s\"'`#]")
_QUOTED = re.compile(r"([\"'])[^\s\"']+\1")
_MARKER = re.compile(r"### (BEGIN|END) (SOLUTION|HIDDEN TESTS|BROKEN)")
_END = "\0"
CLOSING = (")", "]", "}")


def listed(lines: Sequence[str], noun: str) -> str:
    """How many there are, and the first of them, a line each."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n  ".join([counted(len(lines), noun), *lines[:SHOWN], *more])


class Scanner:
    """Knows what is to be found nowhere. `public`: texts that are given on purpose."""

    def __init__(self, secrets: Sequence[str], public: Sequence[str] = ()) -> None:
        self.lines, self.passages = _lines(secrets, public), _passages(secrets, public)

    def find(self, files: Mapping[str, bytes]) -> list[str]:
        """What of the secrets stands in the files, a line each: "FILE: what".

        Raises HW7Error where an entry of GIVEN is out of date.
        """
        return [f"{name}: {what}" for name, data in sorted(files.items()) for what in self._find(name, data)]

    def refuse(self, files: Mapping[str, bytes]) -> None:
        """Raises HW7Error that names what `find` finds."""
        if leaks := self.find(files):
            raise HW7Error(f"nothing is released: an answer is given away in {listed(leaks, 'place')}")

    def _find(self, name: str, data: bytes) -> Iterator[str]:
        if bad := [part for part in name.split("/") if part in FORBIDDEN]:
            yield f"{bad[0]} is not for students"
        text = "\n".join(_texts(name, data))
        if marker := _MARKER.search(text):
            yield f"a marker, {marker[0]!r}"
        exact, renamed = _joined(_words(text)), _joined(_renamed(text))
        for fragment in GIVEN.get(name, ()):
            if (here := _joined(_words(fragment))) not in exact:
                raise HW7Error(f"course/leaks.py: GIVEN lists code that no longer stands in {name}: {fragment}")
            exact = exact.replace(here, _END * 2)
        for fragment in (*IDIOMS, *GIVEN.get(name, ())):
            renamed = renamed.replace(_joined(_renamed(fragment)), _END * 2)
        hits = [line for needle, line in self.lines.items() if needle in exact]
        hits += [code for needle, code in self.passages.items() if needle in renamed]
        yield from dict.fromkeys(hits)


def _lines(secrets: Sequence[str], public: Sequence[str]) -> dict[str, str]:
    """The lines of solutions that no line of `public` is, as they are looked for -> as they are shown."""
    hidden = {line.strip(): _words(line) for text in secrets for line in text.split("\n")}
    told = {_joined(_words(line)) for text in (*public, *IDIOMS) for line in text.split("\n")}
    return {_joined(words): line for line, words in hidden.items() if len(words) >= LINE and _joined(words) not in told}


def _passages(secrets: Sequence[str], public: Sequence[str]) -> dict[str, str]:
    """The passages of solutions that say something, without those of `public`, as looked for -> as shown."""
    told = {window for text in public for window, _ in _windows(_renamed(text))}
    found = (each for text in secrets for each in _windows(_renamed(text)))
    return {window: " ".join(words) for window, words in found if window not in told}


def _windows(tokens: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    for size in PASSAGES:
        for start in range(len(tokens) - size + 1):
            window = tokens[start : start + size]
            if len(set(filter(_says_something, window))) >= SAYINGS:
                yield _joined(window), window


def _says_something(token: str) -> bool:
    if token[0].isdigit():
        return token not in ("0", "1")
    return token != "_" and token.isidentifier() and not keyword.iskeyword(token)


def _joined(tokens: Sequence[str]) -> str:
    return _END + _END.join(tokens) + _END


def _words(text: str) -> list[str]:
    """The tokens of a text, without commas before a closing bracket."""
    words = _TOKEN.findall(text)
    return [word for word, after in pairwise([*words, ""]) if word != "," or after not in CLOSING]


def _renamed(text: str) -> list[str]:
    """`_words`, with every name replaced by "_" that is not called, reached (`x.name`), passed (`name=`) or quoted."""
    quoted = {place for match in _QUOTED.finditer(text) for place in range(match.start(), match.end())}
    found = [(match[0], match.end()) for match in _TOKEN.finditer(text)]
    words = [word for word, _ in found]
    out = []
    for before, (word, end), after in zip(["", *words], found, [*words[1:], ""], strict=False):
        if word == "," and after in CLOSING:
            continue
        passed = before in ("(", ",") and text[end : end + 1] == "=" != text[end + 1 : end + 2]
        is_name = word.isidentifier() and not keyword.iskeyword(word)
        kept = before == "." or after == "(" or passed or end in quoted
        out.append("_" if is_name and not kept else word)
    return out


def _texts(name: str, data: bytes) -> Iterator[str]:
    """All that can be read in a file: of a notebook every string, of safetensors the header."""
    if name.endswith(".ipynb"):
        yield from _strings(json.loads(data))
    elif name.endswith(".safetensors"):
        yield from _strings(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")] or b"{}"))
    else:
        yield data.decode(errors="replace")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        yield "".join(value)  # how a notebook keeps a text of several lines
    elif isinstance(value, Mapping | list):
        for entry in [*value, *value.values()] if isinstance(value, Mapping) else value:
            yield from _strings(entry)
