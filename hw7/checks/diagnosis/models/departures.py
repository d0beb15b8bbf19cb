"""Where a network departs from the right one, by the layers that it was seen to run.

The layers (`network_trace`) come from the submission's own process. They are believed in nothing but for the message,
and only where the outputs that came with them are those that were judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from hw7.checks.cases import Answer, Case, Verdict
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.models.clauses import name
from hw7.checks.diagnosis.models.edits import compare
from hw7.checks.diagnosis.models.layers import Network, network_of
from hw7.checks.diagnosis.models.places import Places
from hw7.checks.diagnosis.models.sentences import Fact, Words
from hw7.checks.diagnosis.models.traces import Trace, traced
from hw7.checks.rows import decode
from hw7.checks.tensors import ROLES
from hw7.support.words import counted, joined

SAID = 3  # facts in a message
WEIGHTS = [ROLES.index(role) for role in ("conv weight", "linear weight")]
MANY = 1 / 3  # of the layers: where more differ, the first departure is told alone


def departures(right: Network, other: Network, noun: str) -> list[Fact]:
    """In what a network differs from the right one, in the right one's order."""
    pairs = compare(right, other)
    if pairs is None or not (right.layers and other.layers):
        return []
    words = Words(right, other, pairs, Places(right.layers, noun))
    facts = words.facts()
    if not facts and other.casts:
        facts = [Fact(0, "layer-set-otherwise", f"The network computes in {joined(other.casts)}, not in float32.")]
    if not any(edit.kind != "set" for edit in pairs.edits):
        facts += [*_shared(right, other, words), *_branches(right, other, words)]
    return facts


def _shared(right: Network, other: Network, words: Words) -> list[Fact]:
    """Layers that are one and the same."""
    users: dict[int, list[int]] = {}
    for index, here in words.pairs.matched.items():
        if other.layers[here].weight >= 0 and right.layers[index].family in ("convolution", "batch norm", "linear"):
            users.setdefault(other.layers[here].weight, []).append(index)
    shared = sorted(each for group in users.values() if len(group) > 1 for each in group)
    if not shared:
        return []
    at = [each for each in shared if right.layers[each].family != "batch norm"] or shared
    where = words.places.of(at)
    what = f"the batch norms after {where}" if right.layers[at[0]].family == "batch norm" else where
    text = f"{what[:1].upper()}{what[1:]} share their weights; each is a layer of its own."
    return [Fact(at[0], "layer-shared", text, len(at))]


def _branches(right: Network, other: Network, words: Words) -> list[Fact]:
    """Sums of other layers' outputs than they should be."""
    found = []
    for at, here in words.pairs.matched.items():
        if right.layers[at].family != "add":
            continue
        wanted = [words.pairs.matched.get(each, each) for each in right.layers[at].sources]
        got = list(other.layers[here].sources)
        if sorted(wanted) != sorted(got):
            found.append(at)
    if not found:
        return []
    where = words.places.named(sorted({right.layers[at].place % 1000 for at in found}))
    text = f"In {where}, the shortcut begins elsewhere than at the block's input."
    return [Fact(found[0], "layers-in-another-order", text, len(found))]


def _end(other: Network) -> str:
    """How a network that came to no end stopped."""
    if other.whole or not other.layers:
        return ""
    last = other.layers[-1]
    gets, takes = last.gets[0] if last.gets else -1, last.takes
    if last.family in ("convolution", "linear", "batch norm") and takes not in (-1, gets) and gets > 0:
        unit = "features" if last.family == "linear" else "channels"
        return f"It stops with an exception: {name(last, article=True)} made for {takes:g} {unit} gets {gets}."
    if last.family == "add":
        return "It stops with an exception where two tensors of different shapes are added."
    return f"It stops with an exception at {name(last, article=True)}."


def _message(facts: Sequence[Fact], size: int) -> str:
    """The first facts; the first one alone where much differs."""
    many = len(facts) > 2 and sum(fact.size for fact in facts) > MANY * size
    shown = facts[:1] if many else facts[:SAID]
    more = " More differs after that." if len(shown) < len(facts) else ""
    return " ".join(fact.text for fact in shown) + more


def _told(case: Case, trace: Trace) -> Diagnosis | None:
    """What a network's layers say of one case."""
    evidence = case.evidence["network"]
    table, noun = evidence["rows"], str(evidence["noun"])
    rows = decode(table) if isinstance(table, Tensor) else None
    if rows is None:
        return None
    right, train = network_of(rows, False), _in_train_mode(network_of(rows, True))
    size = f"{case.call.inputs['train_shape'][2]}x{case.call.inputs['train_shape'][3]}"  # type: ignore[index]
    looks = (
        (right, trace.eval, ""),
        (right, trace.eval_of_train, f"For images of {size} pixels: "),
        (train, trace.train, "In train mode: "),
    )
    for wanted, other, head in looks:
        facts = departures(wanted, other, noun) if other.connected or not other.whole else []
        stop = _end(other)
        if facts:
            text = _message(facts, len(wanted.layers))
            return Diagnosis(facts[0].mistake, f"{_headed(head, text)}{' ' + stop if stop else ''}")
        if stop:
            return Diagnosis("network-stops", _headed(head, stop))
        if not other.connected:
            return None
    return None


def _headed(head: str, text: str) -> str:
    """A sentence that begins with another one's head, with a small letter where its first word has no others."""
    first = text.partition(" ")[0]
    small = first.istitle() if head else False
    return head + (text[0].lower() + text[1:] if small else text)


def _in_train_mode(network: Network) -> Network:
    """Its batch norms take the batch's statistics."""
    norms = {"batch norm": {"batch": 1.0}}
    layers = [replace(each, facets=each.facets | norms.get(each.family, {})) for each in network.layers]
    return replace(network, layers=tuple(layers))


def _unused(case: Case, answers: Sequence[Answer], trace: Trace) -> Diagnosis | None:
    """Parameters that the network has and never uses, where its layers are right."""
    if case.judge != "layers" or not trace.eval.whole:
        return None
    table, used = answers[0].tensors[0], {layer.weight for layer in trace.eval.layers}
    idle = [n for n, row in enumerate(table.tolist()) if row[0] in WEIGHTS and n not in used]
    if not idle:
        return None
    held = counted(len(idle), "weight")
    text = f"Of convolutions and linear layers, the network holds {held} that its forward pass never uses."
    return Diagnosis("layer-never-used", text)


def find_layers(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """What is wrong with the networks of one task, by the case's name."""
    found: dict[str, Diagnosis] = {}
    for each in asked:
        if each.outcome.verdict not in (Verdict.WRONG, Verdict.CRASH) or not each.case.evidence:
            continue
        trace = traced(each.answers)
        told = None if trace is None else _told(each.case, trace) or _unused(each.case, each.answers, trace)
        if told is not None:
            found[each.case.name] = told._replace(message=told.message + _only(each, asked))
    return found


def _only(here: Asked, asked: Sequence[Asked]) -> str:
    """For which questions a network is right, where that is so for some."""
    same = [
        each
        for each in asked
        if each.case.judge == here.case.judge == "outputs"
        and each.case.call.inputs["builder"] == here.case.call.inputs["builder"]
    ]
    right = [each.case.name for each in same if each.outcome.verdict is Verdict.RIGHT]
    builder = f"{here.case.call.inputs['builder']}, "
    names = [name.removeprefix("output, ").removeprefix(builder) for name in right]
    if not names:
        return ""
    return f" It is right for: {'; '.join(names)}."
