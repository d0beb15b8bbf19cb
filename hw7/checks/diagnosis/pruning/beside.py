"""Chapter pruning, beside the numbers: what was changed, shared, frozen or left, in words that say where."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hw7.checks.compare import compared_names, difference
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.pruning.answers import answer_of, entries_named, is_wrong
from hw7.checks.held import entries_of
from hw7.checks.tensors import student_net

# What is said where an entry is wrong, of the question, its right value and what came back.
_Words = Callable[[Asked, Tensor, Tensor], str]


def _plainly(words: str) -> _Words:
    return lambda asked, right, got: words


def _changed(asked: Asked, right: Tensor, got: Tensor) -> str:
    if got.shape != right.shape:
        return "Tensors of the given model lie elsewhere in memory afterwards: work on a copy of it."
    return f"Other numbers are in {_differing(asked, right, got)} of the given model afterwards: work on a copy of it."


def _shared(asked: Asked, right: Tensor, got: Tensor) -> str:
    if got.shape != right.shape:
        return _changed(asked, right, got)
    return (
        f"Once all of the result is set to 0, {_differing(asked, right, got)} of the given model changes, too: both "
        "networks hold the same memory there. Copy the numbers."
    )


def _differing(asked: Asked, right: Tensor, got: Tensor) -> str:
    """The entries of the given model whose numbers differ."""
    inputs = asked.case.call.inputs
    before, after = (entries_of(student_net(inputs["widths"], vector)) for vector in (right, got))  # type: ignore[arg-type]
    floating = [name for name, tensor in before.items() if tensor.is_floating_point()]
    return entries_named([name for name in floating if not torch.equal(before[name], after[name])], floating)


def _trained(asked: Asked, right: Tensor, got: Tensor) -> str:
    entries = entries_of(student_net(asked.case.call.inputs["to"], got))  # type: ignore[arg-type]
    floating = {name: each for name, each in entries.items() if each.is_floating_point()}
    off = [name for name, each in floating.items() if each.abs().max() > asked.case.expected["atol"]]  # type: ignore[operator]
    return (
        "In train mode the result does not do what a StudentNet of the same entries does: one step of SGD takes "
        f"{entries_named(off, floating)} elsewhere. It must have no layer or setting of its own."
    )


def _left(asked: Asked, right: Tensor, got: Tensor) -> str:
    parameters, statistics = got.tolist()
    parts = [f"{n} {words}" for n, words in ((parameters, "parameters"), (statistics, "running statistics")) if n]
    whose = "the result" if asked.case.call.program == "slim_in_use" else "the networks, all together"
    return (
        f"A step of SGD in train mode does not reach {' and '.join(parts)} of {whose}: nothing may be frozen, cut off "
        "from autograd or made in inference mode, and train() must reach all batch norms."
    )


def _together(asked: Asked, right: Tensor, got: Tensor) -> str:
    count = int(got)
    return (
        f"{count:,} numbers of one result change when another result of the same call, and a copy, are set to 0: they "
        "share memory. Each call makes a network of its own."
    )


def _filled(asked: Asked, right: Tensor, got: Tensor) -> str:
    rows = [(int(low), int(high)) for low, high in got.tolist()]
    steps = [str(step) for step, row in enumerate(rows, start=1) if row != (step, step)]
    return (
        f"The networks of step {' and '.join(steps)} change when that of a later step is filled with a number: they "
        "share memory with it, or are one and the same network. Each step makes one of its own."
    )


def _calls(asked: Asked, right: Tensor, got: Tensor) -> str:
    times = {0: "never", 1: "once"}.get(int(got), f"{int(got)} times")
    return f"`finetune` is called {times} in {int(right)} steps: once in every step is asked for, with its new network."


def _widths(whose: str) -> _Words:
    return lambda asked, right, got: f"{whose} says {got.tolist()}, where {right.tolist()} belongs."


_STATE = (
    "all its numbers are as before, but something else is not: a mode, a flag, a gradient, a counter, its widths, a "
    "part that was replaced or added, or its place in memory."
)
_FILLED = "what is in each network after it was filled with its number"
_ALL_ELSE = "whether all else of the model is as before"
_SAID: Mapping[str, _Words] = {
    "whether it needs a gradient": _plainly(
        "The importance needs a gradient: it still hangs on the graph of the scale, and a ranking needs none."
    ),
    "the scale after": _plainly(
        "The batch norm's own scale is another afterwards: the importance must be a new tensor."
    ),
    "the shift and statistics after": _plainly("The batch norm's shift or statistics are others afterwards."),
    "whether all else of the batch norm is as before": _plainly(f"Of the batch norm that was given, {_STATE}"),
    "the importance after": _plainly("The importances that were given are others afterwards, or lie elsewhere."),
    "whether the importance is the same to autograd": _plainly(
        "The importances that were given are something else to autograd afterwards: a flag or a graph was put on them."
    ),
    "whether all parameters are trainable": _plainly(
        "Parameters of the result do not need a gradient: they could not be fine-tuned."
    ),
    "the model after slimming": _changed,
    "the model after the result was set to 0": _shared,
    _ALL_ELSE: _plainly(f"Of the model that was given, {_STATE}"),
    f"{_ALL_ELSE} after the result was set to 0": _plainly(
        "Whole numbers of the given model (stage_widths, num_batches_tracked) change when those of the result do: "
        "both networks hold the same memory there."
    ),
    "the widths": _widths("`widths` of the result"),
    "stage_widths": _widths("`stage_widths` of the result"),
    "whether the widths are a tuple": _plainly("`widths` of the result is no tuple: StudentNet itself makes one."),
    "whether the networks' widths are tuples": _plainly(
        "`widths` of the networks is no tuple: StudentNet itself makes one, and nothing should take its place."
    ),
    "the widths of the result, slimmed again": _widths("The result, slimmed again,"),
    "the difference that a file makes to the outputs": _plainly(
        "A StudentNet that loads the result's state_dict gives other outputs: the result is more than its entries."
    ),
    "how many entries of the result change with another result and a copy": _together,
    "how many parameters and statistics a step of SGD does not reach": _left,
    "how far a step of SGD takes it from a network of its entries": _trained,
    "the given model's widths after": _widths("`widths` of the given model"),
    "the given model's stage_widths after": _widths("`stage_widths` of the given model"),
    "the calls of finetune": _calls,
    "how often finetune could have computed gradients": _plainly(
        "`finetune` is called where gradients are switched off (no_grad or inference_mode): it could not train there."
    ),
    _FILLED: _filled,
}

_OWN_IDS = {_FILLED: "prune-networks-share-storage", "the calls of finetune": "prune-finetune-calls"}


def beside(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """Of each wrong answer the first entry that is wrong, where it is one of these."""
    found = {}
    for each in filter(is_wrong, asked):
        answer = answer_of(each)
        sizes = each.case.call.program in ("slim", "slim_outputs")
        for name in compared_names(each.case.expected) if answer is not None else ():
            right, got = each.case.expected[name], answer[name]  # type: ignore[index]
            assert isinstance(right, Tensor)
            if difference(name, right, got, each.case.expected) is None:
                continue
            same_kind = got.dtype == right.dtype and (got.shape == right.shape or name.startswith("the model after"))
            same_kind &= bool(got.double().isfinite().all())  # what is NaN may be so for any reason
            if name in _SAID and same_kind and (sizes or name != "the widths"):
                found[each.case.name] = Diagnosis(_OWN_IDS.get(name, "pruning-beside"), _SAID[name](each, right, got))
            break
    return found
