"""Cases as one file: the public tests carry their questions, and the values they expect, as data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from hw7.checks.cases import Call, Case


def save_cases(cases: Sequence[Case], path: Path) -> None:
    """All cases in one safetensors file: the tensors as tensors, the rest as JSON in its header. The same cases give
    the same bytes."""
    tensors: dict[object, tuple[int, Tensor]] = {}  # by content: what is the same is stored once
    calls: dict[int, tuple[int, Call]] = {}  # by identity: what is the same call is asked once

    def pack(value: Any) -> Any:
        if isinstance(value, Call):
            return calls.setdefault(id(value), (len(calls), value))[0]
        if isinstance(value, Tensor):
            flat = torch.cat([value.detach().reshape(-1)])  # with strides of its own, which `view` looks at
            content = (value.dtype, value.shape, flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
            return {"tensor": tensors.setdefault(content, (len(tensors), value))[0]}
        if isinstance(value, tuple):
            return {"tuple": list(value)}
        if isinstance(value, Mapping):
            return {"mapping": {name: pack(entry) for name, entry in value.items()}}
        return value

    rows = [{key: pack(getattr(case, key)) for key in Case.__dataclass_fields__} for case in cases]
    asked = [{"program": call.program, "inputs": pack(call.inputs)} for _, call in calls.values()]
    stored = {str(number): tensor.contiguous().clone() for number, tensor in tensors.values()}
    text = json.dumps({"calls": asked, "cases": rows}, allow_nan=False)
    path.write_bytes(safetensors.torch.save(stored, metadata={"cases": text}))


def load_cases(path: Path) -> list[Case]:
    """What `save_cases` wrote."""
    return read_cases(path.read_bytes())


def read_cases(data: bytes) -> list[Case]:
    """The cases in the bytes of such a file. Raises ValueError, KeyError or SafetensorError for others."""
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    content = json.loads(header["__metadata__"]["cases"])

    def unpack(value: Any) -> Any:
        if isinstance(value, dict):
            ((kind, content),) = value.items()
            if kind == "tensor":
                return tensors[str(content)]
            return tuple(content) if kind == "tuple" else {name: unpack(entry) for name, entry in content.items()}
        return value

    calls = [Call(call["program"], unpack(call["inputs"])) for call in content["calls"]]
    cases = []
    for row in content["cases"]:
        values = {key: unpack(value) for key, value in row.items()}
        values["call"] = calls[values["call"]]
        values["then"] = None if values["then"] is None else calls[values["then"]]
        cases.append(Case(**values))
    return cases
