"""The layers that a wrong network was seen to run, where they belong to the answer that was judged."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.cases import Answer, Case, Status
from hw7.checks.diagnosis.models.layers import Network, network_of
from hw7.checks.rows import decode

RTOL = 1e-3  # between two runs of one network, in float32


class Trace(NamedTuple):
    """What a network was seen to run: in eval mode, for the images of eval mode and for those of train mode, and in
    train mode."""

    eval: Network
    eval_of_train: Network
    train: Network


def traced(answers: Sequence[Answer]) -> Trace | None:
    """None where there are no layers that belong to the answer."""
    if len(answers) != 2 or answers[1].status is not Status.RETURNED or len(answers[1].tensors) != 6:
        return None
    rows = [decode(table) for table in answers[1].tensors[::2]]
    outputs, judged = answers[1].tensors[1::2], answers[0].tensors[1:]
    networks = [
        network_of(each, train) for each, train in zip(rows, (False, False, True), strict=True) if each is not None
    ]
    if len(networks) != 3 or (networks[0].whole and not judged):
        return None
    pairs = zip(judged[:2], outputs[::2], networks[::2], strict=False)  # in eval mode and in train mode
    if not all(_random(network) or _alike(one, other) for one, other, network in pairs):
        return None
    return Trace(*networks)


def signature(table: Tensor) -> str:
    """What the network of a table of rows is known by; "" where it is none."""
    rows = decode(table)
    return "" if rows is None else network_of(rows).signature


def _random(network: Network) -> bool:
    """Whether two runs of a network give two outputs: by dropout, or by weights that nobody could set."""
    return any(layer.family == "dropout" or layer.facets.get("own") == 0 for layer in network.layers)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether these outputs are of one network."""
    if one.shape != other.shape or not (one.is_floating_point() and other.is_floating_point()):
        return False
    largest = float(one.double().abs().nan_to_num(posinf=0).max()) if one.numel() else 0.0
    return torch.allclose(one.double(), other.double(), rtol=RTOL, atol=RTOL * largest, equal_nan=True)


def contradicts(case: Case, mistake: str, answer: Answer, trace: Answer) -> bool:
    """Whether a network runs other layers than a known mistake would, though its parameters are the same."""
    seen = traced((answer, trace))
    signature = case.evidence.get("signatures", {}).get(mistake)
    return seen is not None and seen.eval.whole and signature is not None and signature != seen.eval.signature
