"""Diffs of releases: what differs between the files made now and those that are there, tensors by their values."""

import difflib
from collections.abc import Iterator, Mapping

import safetensors
import torch
from torch import Tensor

from hw7.checks.cases import Case, Value
from hw7.checks.compare import allowed, kind
from hw7.checks.storage import read_cases

ROUNDING = 4 * torch.finfo(torch.float32).eps  # of the largest entry: random inputs, made on two processors

EVIDENCE, CLOSE = "evidence ", 1e-3  # and how far it may differ: a diagnosis allows for more


def differences(files: Mapping[str, bytes], there: Mapping[str, bytes]) -> Iterator[str]:
    """A line for each file that is missing, too many, or different: where it differs first."""
    for name in sorted({*files, *there}):
        if name not in there:
            yield f"{name}: is missing"
        elif name not in files:
            yield f"{name}: belongs to no release"
        elif not same(name, files[name], there[name]):
            yield f"{name}: {_first_difference(name, files[name], there[name])}"


def same(name: str, new: bytes, old: bytes) -> bool:
    """Whether two files are one. Cases are where their values differ by no more than their judges let pass."""
    return new == old or (name.endswith(".safetensors") and not any(_between_cases(new, old)))


def _between_cases(new: bytes, old: bytes) -> Iterator[str]:
    """A line for each tensor or word that differs between two files of cases."""
    try:
        fresh, stored = ({case.name: case for case in read_cases(data)} for data in (new, old))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        yield "cannot be read as cases"
        return
    if list(fresh) != list(stored):
        yield f"other cases: {', '.join(sorted(set(fresh) ^ set(stored))) or 'the same in another order'}"
        return
    for name, case in fresh.items():
        wanted, found = _values(case), _values(stored[name])
        for key in sorted({*wanted, *found}):
            if key not in wanted or key not in found:
                yield f"{name}: {key} is {'missing' if key in wanted else 'too many'}"
            elif words := _apart(wanted[key], found[key], key, case):
                yield f"{name}: {key} {words}"


def _values(case: Case) -> dict[str, Value]:
    """Everything that a case holds, by what it is."""
    flat: dict[str, Value] = {"task": case.task, "part": case.part, "judge": case.judge}
    for number, call in enumerate(filter(None, (case.call, case.then)), start=1):
        flat |= {f"program {number}": call.program}
        flat |= {f"input {number} {name}": value for name, value in call.inputs.items()}
    flat |= {f"expected {name}": value for name, value in case.expected.items()}
    for kind_, table in (("", case.mistakes), (EVIDENCE, case.evidence)):
        for id_, change in table.items():
            flat |= {f"{kind_}{id_}": True, **{f"{kind_}{id_}: {name}": value for name, value in change.items()}}
    return flat


def _apart(new: Value, old: Value, key: str, case: Case) -> str:
    """How two values differ, in words; "" where a judge would take one for the other."""
    if not isinstance(new, Tensor) or not isinstance(old, Tensor):
        return "" if type(new) is type(old) and new == old else f"is {old!r}, to be {new!r}"
    if kind(new) != kind(old):
        return f"is {kind(old)}, to be {kind(new)}"
    if torch.equal(new, old) or not new.numel():
        return ""
    finite = new[new.isfinite()].double().abs()
    largest = finite.max().item() if finite.numel() else 0.0
    bound = max(ROUNDING, torch.finfo(new.dtype).eps) * largest if new.is_floating_point() else 0.0
    if key.startswith(EVIDENCE):
        bound = max(bound, CLOSE * largest) if new.is_floating_point() else 0.0
    elif not key.startswith("input "):
        bound = max(bound, allowed(key.rpartition(": ")[2].removeprefix("expected "), new, case.expected))
    off = (new.double() - old.double()).abs().nan_to_num(torch.inf)
    off[(new == old) | (new.isnan() & old.isnan())] = 0
    worst = off.max().item()
    return "" if worst <= bound else f"differs by up to {worst:.3g}, of {bound:.3g} allowed"


def _first_difference(name: str, new: bytes, old: bytes) -> str:
    if name.endswith(".safetensors"):
        return next(_between_cases(new, old))
    try:
        lines = list(difflib.unified_diff(old.decode().splitlines(), new.decode().splitlines(), n=0, lineterm=""))
    except UnicodeDecodeError:
        return f"{len(old):,} bytes, to be {len(new):,}, or other values"
    changed = [line for line in lines[2:] if not line.startswith("@@")]
    place = lines[2].split()[1].lstrip("-").partition(",")[0] if changed else ""
    return f"line {place}: {' / '.join(changed[:2])}" if changed else "line ends"
