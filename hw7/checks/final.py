"""The accuracy on labelled images of the network that is handed in (task 5.2).

Labels never reach the submission: it is handed images batch by batch, and only a row with one largest logit can be
right.
"""

from collections.abc import Callable

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hw7.checks.bounds import bound
from hw7.checks.cases import Answer, Call, Outcome, Status, Verdict
from hw7.checks.compare import kind
from hw7.checks.diagnosis.final import SOME, explain
from hw7.checks.diagnosis.frame import Diagnosis
from hw7.checks.outcomes import outcome_of_status, wrong_answer
from hw7.solution import NUM_CLASSES

NEEDED = ("models", "quantization")  # the modules that the network and its weights come from
Asks = Callable[[Call], Answer]


def logits_of(weights: bytes, images: Tensor, batch: int, ask: Asks) -> Outcome | Tensor:
    """The logits [N, 11] of the network that this file makes for images, uint8 [N, 3, S, S]; or why there are none."""
    try:
        safetensors.torch.load(weights)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        message = "weights.safetensors is not a whole safetensors file. Write it with safetensors.torch.save_file."
        if weights[:2] in (b"PK", b"\x80\x02"):
            message = "weights.safetensors was written by torch.save. Write it with safetensors.torch.save_file."
        return Outcome(Verdict.WRONG, message, clear=True, note=str(error)[:300])
    data = torch.frombuffer(bytearray(weights), dtype=torch.uint8)
    answer = ask(Call("final_model", {"weights": data}, bound(1, 1)))
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    if len(answer.tensors) != 1:
        message = "final_model must return an nn.Module, and decompress a dict that its load_state_dict takes."
        return wrong_answer(message, "a network", "something else", note=answer.note, clear=True)
    found = []
    for pictures in images.split(batch):
        answer = _ask_logits(pictures.float() / 255, ask)
        if outcome := unfit(answer, len(pictures)):
            return outcome
        found.append(answer.tensors[0].float())
    return torch.cat(found)


def _ask_logits(pictures: Tensor, ask: Asks) -> Answer:
    return ask(Call("final_logits", {"images": pictures}, bound(1, len(pictures) * NUM_CLASSES)))


def why_low(logits: Tensor, images: Tensor, labels: Tensor, enough: float, ask: Asks) -> Diagnosis | None:
    """Why fewer than `enough` of these logits [N, 11] are right for images, uint8 [N, 3, S, S]; None where that is not
    found out."""

    def again(pictures: Tensor) -> Tensor | None:
        answer = _ask_logits(pictures, ask)
        return None if unfit(answer, len(pictures)) else answer.tensors[0].float()

    return explain(logits, images[:SOME].float() / 255, labels, enough, again)


def unfit(answer: Answer, images: int) -> Outcome | None:
    """Why an answer is not the logits [images, 11] of a batch; None where it is."""
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    shape = (images, NUM_CLASSES)
    if len(answer.tensors) == 1 and answer.tensors[0].shape == shape and answer.tensors[0].is_floating_point():
        return None
    message = "final_model must give one row of logits for each image."
    got = kind(answer.tensors[0]) if len(answer.tensors) == 1 else "something else"
    return Outcome(Verdict.WRONG, message, f"float32 {list(shape)}", got, clear=True)


def hits(logits: Tensor, labels: Tensor) -> int:
    """Rows of [N, C] whose one largest logit, and no other, is the label's [N]; a row with NaN or infinity is wrong."""
    best = logits.amax(dim=1, keepdim=True)
    alone = (logits == best).sum(dim=1) == 1
    fine = torch.isfinite(logits).all(dim=1)
    return int((fine & alone & (logits.argmax(dim=1) == labels)).sum())
