"""What keeps safetensors from saving a dict of tensors: found where a submission runs, and put into words."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from numbers import Number
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, safetensors.SafetensorError)


class Obstacle(IntEnum):
    """Why not."""

    NONE = 0
    NO_MAPPING = 1
    NO_DICT = 2  # a mapping of another type
    NAME = 3  # no str
    NESTED = 4
    LIST = 5
    TEXT = 6
    NUMBER = 7
    NO_TENSOR = 8  # anything else, such as an array
    RESERVED = 9  # the name of the file's own metadata
    LAYOUT = 10
    KIND = 11  # a dtype or a layout that files do not know, a name that is no UTF-8
    SHARED = 12
    OTHER = 13


# What an entry is, and what there should be instead. {0} and {1} stand for entries.
_WORDS = {
    Obstacle.NO_MAPPING: ("compress must return a dict.", "a dict of tensors", "something that is no dict"),
    Obstacle.NO_DICT: (
        "compress must return a dict: safetensors takes no other mapping.", "a dict of tensors", "another mapping"
    ),
    Obstacle.NAME: ("{0} has a name that is no str.", "names that are str", "another type"),
    Obstacle.NESTED: ("{0} is a dict in the dict: safetensors takes a flat one.", "a tensor", "a dict"),
    Obstacle.LIST: ("{0} is a tuple or a list: each value must be one tensor.", "a tensor", "a tuple or a list"),
    Obstacle.TEXT: ("{0} is text: a file holds tensors only. Store its bytes as one.", "a tensor", "a str or bytes"),
    Obstacle.NUMBER: ("{0} is a number: a file holds tensors only.", "a tensor", "a Python number"),
    Obstacle.NO_TENSOR: ("{0} is no tensor: an array, or something else.", "a tensor", "something else"),
    Obstacle.RESERVED: (
        "{0} is called __metadata__: safetensors keeps this name for itself.", "another name", "__metadata__"
    ),
    Obstacle.LAYOUT: (
        "{0} does not lie in memory row by row, and safetensors does not save that: make it contiguous.",
        "a contiguous tensor", "another memory layout",
    ),
    Obstacle.KIND: (
        "{0} has a dtype, a layout or a name that safetensors cannot save.", "a plain tensor", "another one"
    ),
    Obstacle.SHARED: (
        "{1} and {0} lie in the same memory, and safetensors does not save that: give each its own copy.",
        "tensors that share no memory", "two that do",
    ),
    Obstacle.OTHER: (
        "compress must return a flat dict of tensors with names that safetensors can save.",
        "a dict of tensors", "something else",
    ),
}  # fmt: skip


def in_words(obstacle: Obstacle, entries: Sequence[str]) -> tuple[str, str, str]:
    """(message, expected, got). entries: what the entries are called."""
    message, expected, got = _WORDS[obstacle]
    message = message.format(*entries)
    return message[:1].upper() + message[1:] if "{" in _WORDS[obstacle][0] else message, expected, got


def obstacle_to(made: Any) -> tuple[Obstacle, int, int]:
    """What keeps safetensors from taking these tensors as they are, and the places of one or two entries in the dict,
    -1 where it is none. It is believed for what a student reads, and for nothing else."""
    if _saved(made) and "__metadata__" not in made:
        return Obstacle.NONE, -1, -1
    if not isinstance(made, dict):
        return (Obstacle.NO_DICT if isinstance(made, Mapping) else Obstacle.NO_MAPPING), -1, -1
    try:
        for place, (name, value) in enumerate(made.items()):
            if (kind := _kind(name, value)) is not Obstacle.NONE:
                return kind, place, -1
        first: dict[int, int] = {}
        for place, value in enumerate(made.values()):
            if value.numel() and (other := first.setdefault(value.untyped_storage().data_ptr(), place)) != place:
                return Obstacle.SHARED, place, other
    except _ERRORS:  # a dict or a tensor of the submission's own class
        pass
    return Obstacle.OTHER, -1, -1


def _saved(made: Any) -> bool:
    try:
        safetensors.torch.save(made)
    except _ERRORS:
        return False
    return True


def _kind(name: Any, value: Any) -> Obstacle:
    """What is wrong with one entry alone."""
    if not isinstance(name, str):
        return Obstacle.NAME
    if not isinstance(value, Tensor):
        kinds: dict[Any, Obstacle] = {
            Mapping: Obstacle.NESTED, str | bytes: Obstacle.TEXT, Sequence: Obstacle.LIST, Number: Obstacle.NUMBER
        }  # fmt: skip
        return next((obstacle for kind, obstacle in kinds.items() if isinstance(value, kind)), Obstacle.NO_TENSOR)
    if name == "__metadata__":
        return Obstacle.RESERVED
    if value.layout is torch.strided and not value.is_contiguous():
        return Obstacle.LAYOUT
    return Obstacle.NONE if _saved({name: value}) else Obstacle.KIND
