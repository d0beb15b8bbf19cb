"""Task 3.5: which calls of `finetune` reached which network, read from the tensors that are never cut.

The `finetune` of the call `iterative_prune` adds noise of its own in each call. So what lies between a tensor of the
given model and the same one of a network is the sum of the noise of all calls that reached it, or the one it was cut
from.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.pruning.answers import answer_of, entries_named, is_wrong, listed
from hw7.checks.held import entries_of, parameters_of
from hw7.checks.tensors import length, noise, student_net
from hw7.models import StudentNet
from hw7.support.words import counted

NETWORK = "the network of step "
MOST_CALLS, WIDEST = 7, 64
UNCUT = ("stem.conv.weight", "stem.conv.bias", "stem.bn.weight", "stem.bn.bias", "fc.weight", "fc.bias")
CUT = ("blocks.4.bn.weight", "blocks.5.depthwise.bias")

Calls = frozenset[int]


class Chain(NamedTuple):
    """The networks of one question. reached: by which calls each was, None where it comes from elsewhere."""

    asked: Asked
    calls: int
    reached: tuple[Calls | None, ...]
    parts: tuple[Mapping[str, Calls | None] | None, ...]  # the same, tensor by tensor
    given_reached: Calls | None  # None where the given model is something else afterwards
    tuned_first: bool  # whether a network holds rows of the one before after, not before, its step's noise
    same: tuple[int, ...]  # steps whose network is, number by number, that of the next step

    @property
    def steps(self) -> int:
        return len(self.reached)


def finetunings(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """What the networks tell of the calls; of the questions about the chain, and about the model that was given."""
    found = {}
    chains = {id(each.case.call): _chain(each) for each in asked if each.case.judge == "pruned"}
    readable = [chain for chain in chains.values() if chain is not None]
    message = _chain_words(readable)
    for each in filter(is_wrong, asked):
        chain = chains.get(id(each.case.call))
        if chain is None:
            continue
        if each.case.part == "chain" and message:
            once = all(other.calls == other.steps for other in readable)
            found[each.case.name] = Diagnosis("prune-chain" if once else "prune-finetune-calls", message)
        elif each.case.part == "unchanged" and chain.given_reached != frozenset():
            found[each.case.name] = Diagnosis("prune-chain", _given_words(each, chain))
    return found


# ---- reading ---------------------------------------------------------------------------------------------------


def _chain(asked: Asked) -> Chain | None:
    answer, inputs = answer_of(asked), asked.case.call.inputs
    if answer is None or answer["the calls of finetune"].dtype != torch.int64:
        return None
    widths, model, classes = inputs["widths"], inputs["model"], int(asked.case.expected["classes"])  # type: ignore[arg-type]
    assert isinstance(widths, tuple)
    assert isinstance(model, Tensor)
    vectors = [tensor for name, tensor in answer.items() if name.startswith(NETWORK)]
    rows, calls = answer["the widths"], answer["the calls of finetune"]
    if rows.shape != (len(vectors), len(widths)) or rows.dtype != torch.int64 or calls.numel() != 1:
        return None
    if int(rows.min()) < 1 or int(rows.max()) > WIDEST or not 0 <= int(calls) <= MOST_CALLS:
        return None
    networks = [_network(row, vector, classes) for row, vector in zip(rows.tolist(), vectors, strict=True)]
    given = _network(list(widths), model, classes)
    if given is None:
        return None
    parts = tuple(None if net is None else _reached(net, given, int(calls)) for net in networks)
    after = _network(list(widths), answer["the model after"], classes)
    first = any(
        new is not None and old is not None and _tuned_first(new, old, step)
        for step, (old, new) in enumerate(zip([given, *networks], networks, strict=False), start=1)
    )
    pairs = enumerate(pairwise(vectors), start=1)
    same = tuple(step for step, (one, other) in pairs if torch.equal(one, other))
    given_parts = None if after is None else _reached(after, given, int(calls))
    return Chain(asked, int(calls), tuple(map(_common, parts)), parts, _common(given_parts), first, same)


def _network(widths: Sequence[int], vector: Tensor, classes: int) -> StudentNet | None:
    """The network of these numbers; None where they are not as many, or not finite."""
    fits = vector.ndim == 1 and vector.is_floating_point() and len(vector) == length(widths, classes)
    return student_net(widths, vector) if fits and bool(vector.isfinite().all()) else None


def _numbers(network: StudentNet) -> dict[str, tuple[int, Tensor]]:
    """Number among the parameters, and parameter, by name."""
    places = {id(parameter): number for number, parameter in enumerate(parameters_of(network))}
    entries = entries_of(network)
    return {name: (places[id(entries[name])], entries[name].detach().double()) for name in (*UNCUT, *CUT)}


def _noise(call: int, number: int, like: Tensor) -> Tensor:
    return noise(call, "perturb", number, shape=tuple(like.shape)).double()


def _reached(network: StudentNet, given: StudentNet, calls: int) -> dict[str, Calls | None]:
    """By the names of the tensors that are never cut, the calls whose noise lies between the given model and this one;
    None where there are no such calls."""
    ours, theirs = _numbers(network), _numbers(given)
    found: dict[str, Calls | None] = {}
    for name in UNCUT:
        (number, new), (_, old) = ours[name], theirs[name]
        found[name] = _sum_of(new - old, [_noise(call, number, old) for call in range(1, calls + 1)])
    return found


def _sum_of(between: Tensor, noises: Sequence[Tensor]) -> Calls | None:
    for count in range(len(noises) + 1):
        for chosen in combinations(range(len(noises)), count):
            made = sum((noises[call] for call in chosen), torch.zeros_like(between))
            if bool((between - made).abs().max() < 1e-4):
                return frozenset(call + 1 for call in chosen)
    return None


def _common(parts: Mapping[str, Calls | None] | None) -> Calls | None:
    """What all tensors of a network agree on."""
    found = set(parts.values()) if parts else {None}
    return found.pop() if len(found) == 1 else None


def _tuned_first(network: StudentNet, before: StudentNet, step: int) -> bool:
    """Whether it holds numbers of the network before as they are after the noise of a step, for that one's shapes."""
    ours, theirs = _numbers(network), _numbers(before)
    found = []
    for name in CUT:
        (number, new), (_, old) = ours[name], theirs[name]
        if new.shape == old.shape:  # then it is the same noise
            return False
        then, now = _among(new - _noise(step, number, new), old), _among(new, old + _noise(step, number, old))
        found.append(now and not then)
    return all(found)


def _among(numbers: Tensor, others: Tensor) -> bool:
    return bool(((numbers[:, None] - others[None]).abs().amin(dim=1) < 1e-4).all())


# ---- words -----------------------------------------------------------------------------------------------------


def _asked_for(step: int) -> Calls:
    return frozenset(range(1, step + 1))


def _chain_words(chains: Sequence[Chain]) -> str:
    """What is wrong with the chain, of all questions; "" where nothing is, or nothing is known."""
    wrong = [chain for chain in chains if _is_off(chain)]
    if not wrong:
        if any(chain.tuned_first for chain in chains):
            return "Each network is fine-tuned before it is cut: prune first, then hand the new one to `finetune`."
        return ""
    chain = wrong[0]
    pattern = next((words for words, fits in _PATTERNS.items() if all(map(fits, chains))), "")
    return " ".join(filter(None, (pattern, _facts(chain))))


def _is_off(chain: Chain) -> bool:
    reached = any(calls != _asked_for(step) for step, calls in enumerate(chain.reached, start=1))
    return reached or chain.calls != chain.steps or bool(chain.same)


def _each(chain: Chain, rule: str) -> bool:
    """Whether every network was reached by these calls."""
    calls = {
        "none": lambda step: frozenset(),
        "own": lambda step: frozenset([step]),
        "before": lambda step: frozenset(range(1, step)),
        "until": _asked_for,
        "twice": lambda step: frozenset(range(1, 2 * step + 1)),
        "one more": lambda step: frozenset(range(1, step + 2)),
        "one later": lambda step: frozenset(range(1, min(step + 2, chain.steps + 1))),
        "reversed": lambda step: _asked_for(chain.steps + 1 - step),
        "last": lambda step: frozenset([1] if step == chain.steps else []),
        "all": lambda step: frozenset(range(1, chain.steps + 1)),
    }[rule]
    return all(reached == calls(step) for step, reached in enumerate(chain.reached, start=1))


_PATTERNS = {
    "`finetune` is never called.": lambda chain: chain.calls == 0,
    "`finetune` is only called with the model that was given: no network that comes back is trained.": lambda chain: (
        _each(chain, "none") and chain.given_reached == _asked_for(chain.calls)
    ),
    "What `finetune` trains is none of the networks that come back: it gets copies, or others.": lambda chain: (
        _each(chain, "none") and chain.given_reached == frozenset()
    ),
    "The training of a step comes before its pruning: `finetune` gets the network that is cut next.": lambda chain: (
        _each(chain, "one later")
    ),
    "The networks come in reversed order, the smallest first.": lambda chain: _each(chain, "reversed"),
    "Only the last network is fine-tuned.": lambda chain: _each(chain, "last"),
    "Each network has the training of its own step alone: it is cut from what was never trained.": lambda chain: _each(
        chain, "own"
    ),
    "No network has the training of its own step, only that of the steps before it.": lambda chain: _each(
        chain, "before"
    ),
    "Each network is fine-tuned twice.": lambda chain: _each(chain, "twice"),
    "The network is fine-tuned once more before the first step.": lambda chain: _each(chain, "one more"),
    "The list holds one and the same network in every place.": lambda chain: (
        _each(chain, "all") and len(chain.same) == chain.steps - 1
    ),
}


def _facts(chain: Chain) -> str:
    """Which calls each network of a question shows."""
    name = chain.asked.case.name.partition(", ")[2]
    if any(calls is None for calls in chain.reached):
        step, parts = next((n, each) for n, each in enumerate(chain.parts, start=1) if _common(each) is None)
        return _elsewhere(name, step, parts or {})
    shown = "; ".join(f"step {step}: {_calls(calls)}" for step, calls in enumerate(chain.reached, start=1))
    same = "".join(f" The networks of steps {step} and {step + 1} are the same." for step in chain.same)
    return (
        f"In the question '{name}', {counted(chain.steps, 'step')} make {counted(chain.calls, 'call')} of `finetune`; "
        f"the training of these calls shows in the network of {shown}.{same} Asked for is one call a step, and in step "
        "s the training of the calls 1 to s."
    )


def _elsewhere(name: str, step: int, parts: Mapping[str, Calls | None]) -> str:
    """Of a network whose tensors do not all come from the given model, by the same calls."""
    lost = [tensor for tensor in UNCUT if parts.get(tensor) is None]
    if lost:
        where = "its stem and linear layer" if len(lost) == len(UNCUT) else entries_named(lost, UNCUT)
        return (
            f"In the question '{name}', the network of step {step} holds in {where} something else than the "
            "given model's numbers, trained or not. Each network is slimmed from the one before it."
        )
    expected = _asked_for(step)
    odd = {tensor: calls for tensor, calls in parts.items() if calls != expected}
    calls = listed(sorted({_calls(each) for each in odd.values()}))
    return (
        f"In the question '{name}', {entries_named(odd, UNCUT)} of the network of step {step} shows the training of "
        f"other calls of `finetune` ({calls}) than the rest of it: all of a network is slimmed and fine-tuned together."
    )


def _calls(calls: Calls | None) -> str:
    return listed([str(call) for call in sorted(calls or ())], MOST_CALLS) or "none"


def _given_words(asked: Asked, chain: Chain) -> str:
    if chain.given_reached:
        return (
            f"The model that was given is trained by `finetune` (call {_calls(chain.given_reached)}), and another one "
            "afterwards: hand it only networks that were slimmed."
        )
    answer = answer_of(asked)
    right = asked.case.expected["the model after"]
    assert isinstance(right, Tensor)
    after = None if answer is None else answer["the model after"]
    if after is None or after.shape != right.shape:
        return "Tensors of the model that was given lie elsewhere in memory afterwards."
    widths = asked.case.call.inputs["widths"]
    old, new = (entries_of(student_net(widths, vector)) for vector in (right, after))  # type: ignore[arg-type]
    names = [name for name, tensor in old.items() if tensor.is_floating_point()]
    off = [name for name in names if not torch.equal(old[name], new[name])]
    return (
        f"Other numbers are in {entries_named(off, names)} of the model that was given afterwards: it must not change."
    )
