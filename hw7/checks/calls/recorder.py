"""Which layers a network runs, in the order of its calls, whether they are modules, functions or subclasses."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from hw7.checks.calls.operations import READ, Bound
from hw7.checks.rows import (
    COMPUTED,
    IMAGES,
    MOST_ROWS,
    NOTHING,
    OPERATIONS,
    STRANGE,
    UNKNOWN,
    Row,
    encode,
)
from hw7.checks.tensors import layers_of

# What hands the same numbers on.
SAME = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "alias", "t", "squeeze", "unsqueeze",
    "expand", "detach", "clone", "_to_copy", "contiguous", "lift_fresh", "flatten", "unflatten", "to",
    "view_as",
}  # fmt: skip
TURNED = ("transpose", "permute", "movedim")
WEIGHTS = ("weight", "mat2")


class Recorder(TorchDispatchMode):
    """Rows of what is done to these images while it is entered. network: whose parameters weights are looked for in."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.batch = len(images)
        # By tensor, for as long as there is one: a network's activations are many bytes.
        self._parameters, self._made, self._noise, self._results = (WeakTensorKeyDictionary() for _ in range(4))
        self._parameters.update({each: number for number, (_, each) in enumerate(layers_of(network))})
        self._made[images] = IMAGES
        self._written: dict[int, int] = {}  # memory that rows were copied into
        self._held: list[Tensor] = []  # that memory, so that it is used for nothing else

    def table(self) -> Tensor:
        """Empty, where there are too many rows to be compared."""
        return encode(self.rows if len(self.rows) <= MOST_ROWS else [])

    def end(self, output: Any) -> None:
        """Where the output comes from."""
        self.rows.append(Row("output", sources=(self._maker(output), NOTHING)))

    def _maker(self, tensor: Any) -> int:
        """The row that a tensor comes from."""
        known = self._made.get(tensor, UNKNOWN) if isinstance(tensor, Tensor) else UNKNOWN
        if known == UNKNOWN and self._written and isinstance(tensor, Tensor):
            return self._written.get(tensor.untyped_storage().data_ptr(), UNKNOWN)
        return known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        inplace = name.endswith("_") and not name.endswith("__")
        name = name[:-1] if inplace else name
        bound = _bound(func, args, kwargs)
        tensors = _tensors(bound.values())
        made = [each for each in tensors if self._maker(each) != UNKNOWN]
        row, new = None, name.endswith("_like") or name.startswith("new_")
        cast = (
            bool(made)
            and name in ("_to_copy", "to")
            and bound.get("dtype")
            not in (
                None,
                torch.float32,
                *(each.dtype for each in made),
            )
        )
        same = (name in SAME and not cast) or (
            name in TURNED and not (made and made[0].ndim > 3)
        )  # of weights, and of features
        if made and not new and not same and not self._completed(name, tensors):
            row = self._row(name, bound, tensors) if name != "copy" else self._copied(tensors)
        if row is not None:
            self.rows.append(row)
        result = func(*args, **kwargs)
        results = _tensors([result])[:1]
        self._results.update(dict.fromkeys(results))
        if row is not None:
            self._made.update(dict.fromkeys(results, len(self.rows) - 1))
        elif same or name in ("slice", "add", "dropout", "feature_dropout"):
            for each in results if tensors else ():
                self._hand_on(made[0] if made else tensors[0], each)
        elif name == "bernoulli" and results:
            self._noise[results[0]] = 1 - float(bound.get("p", 0.5))
        elif inplace and results and not made:
            self._hand_on(tensors[0], results[0])
        return result

    def _completed(self, name: str, tensors: list[Tensor]) -> bool:
        """Whether this adds the bias of the linear layer before."""
        if name != "add" or len(tensors) != 2 or not 0 <= self._maker(tensors[0]) < len(self.rows):
            return False
        place = self._maker(tensors[0])
        before, bias = self.rows[place], tensors[1] in self._parameters
        if not bias or before.kind != "linear" or before.numbers[2]:
            return False
        self.rows[place] = before._replace(numbers=(*before.numbers[:2], 1.0))
        return True

    def _copied(self, tensors: list[Tensor]) -> Row | None:
        """What is copied into other memory, as where a border is padded by the pixels of the other side."""
        target, given = tensors[:2]
        memory = target.untyped_storage().data_ptr()
        if memory in self._written or self._maker(given) == UNKNOWN:
            return None
        self._written[memory] = len(self.rows)
        self._held.append(target)
        shape = (*given.shape[1:4], -1, -1, -1)[:3]
        return Row("padding", (-1, -1, -1, -1, 3), shape, (self._maker(given), NOTHING))

    def _hand_on(self, given: Tensor, result: Tensor) -> None:
        for known in (self._made, self._parameters, self._noise):
            if given in known:
                known[result] = known[given]

    def _row(self, name: str, bound: Bound, tensors: list[Tensor]) -> Row | None:
        """None for what changes nothing: a slice of all, dropout in eval mode."""
        x = next(each for each in tensors if self._maker(each) != UNKNOWN)
        try:
            kind, numbers = READ[name](bound) if name in READ else ("other", ())
        except (LookupError, TypeError, ValueError, ArithmeticError):
            kind, numbers = "other", ()
        if kind == "other" and not numbers:
            numbers = (OPERATIONS.index(name) if name in OPERATIONS else 0,)
        if name == "slice" and bound["step"] == 1 and not bound["start"]:
            kind = kind if bound["end"] is not None and bound["end"] < x.shape[bound["dim"]] else ""
        if not kind or (kind == "dropout" and not bound.get("train", True)):
            return None
        if kind == "norm" and len(x) != self.batch:
            kind = "instance norm"
        noise = next((self._noise[each] for each in tensors if each in self._noise), None)
        if kind == "multiply" and noise is not None:
            kind, numbers = "dropout", (round(noise, 9),)
        shape = (*x.shape[1:4], -1, -1, -1)[:3]
        weight = next((bound[each] for each in WEIGHTS if isinstance(bound.get(each), Tensor)), None)
        found = [self._maker(each) for each in tensors if self._source(kind, each)]
        first, second = (*found, NOTHING, NOTHING)[:2]
        if kind == "add" and UNKNOWN in (first, second):
            kind, numbers = "other", (0,)
            first, second = max(first, second), NOTHING
        strange = COMPUTED if weight is not None and weight in self._results else STRANGE
        return Row(
            kind, numbers, shape, (first, second), strange if weight is None else self._parameters.get(weight, strange)
        )

    def _source(self, kind: str, tensor: Tensor) -> bool:
        """Whether a row names where this argument comes from: of sums, all; else what comes from the images."""
        return self._maker(tensor) != UNKNOWN or (kind in ("add", "multiply") and tensor not in self._noise)


def _bound(func: Any, args: Any, kwargs: Any) -> Bound:
    arguments = func._schema.arguments
    given = {each.name: each.default_value for each in arguments if each.has_default_value()}
    return given | {each.name: value for each, value in zip(arguments, args, strict=False)} | dict(kwargs)


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [each for each in value if isinstance(each, Tensor)]
    return found


def recorded(network: nn.Module, images: Tensor) -> tuple[Tensor, Any]:
    """The table of a network's rows for these images, in the mode that it has, and its output: of no entries where it
    raised an exception, with the rows up to that."""
    recorder = Recorder(network, images)
    output: Any = torch.empty(0)
    try:
        with torch.no_grad(), recorder:
            output = network(images)
        recorder.end(output)
    except Exception:  # whatever a network raises: its rows are what is asked for
        pass
    return recorder.table(), output
