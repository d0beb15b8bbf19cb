"""Why the network that is handed in is no better than guessing, or far worse than it was at home: task 5.2.

Told by its logits, and by asking it again: the same images, in batches of another make-up, and made into what it may
have been trained on. There are no cases here, so no finder is registered: whoever measures the accuracy asks.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hw7.checks.diagnosis.frame import Diagnosis

SOME = 66  # images that are asked again in other forms
BETTER = 0.15  # of the right answers: how much better another form must be
MOST = 0.9  # of the rows
_MEAN, _STD = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
Ask = Callable[[Tensor], Tensor | None]
"""The logits [N, C] of images [N, 3, H, W], or None where there are none."""


def _resized(images: Tensor, factor: float) -> Tensor:
    size = (round(factor * images.shape[-2]), round(factor * images.shape[-1]))
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


_SIZE = "the size that it sees is another one than it was trained at"
# What the network expects, by what is done to images in [0, 1] for it.
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels from 0 to 255, or divides by 255 once too often. They come in [0, 1]": lambda x: 255 * x,
    "normalised images, and does not normalise them itself. That is part of the model": lambda x: (x - _MEAN) / _STD,
    "images that it has not normalised. It was trained without what it does to them": lambda x: x * _STD + _MEAN,
    "images from -1 to 1, and does not make them so itself. They come in [0, 1]": lambda x: 2 * x - 1,
    "images that it has not moved to -1..1. It was trained without that": lambda x: (x + 1) / 2,
    "the channels in another order. They come as red, green, blue": lambda x: x.flip(1),
    f"images of half the size: {_SIZE}": lambda x: _resized(x, 0.5),
    f"images of a quarter of the size: {_SIZE}": lambda x: _resized(x, 0.25),
    f"images of twice the size: {_SIZE}": lambda x: _resized(x, 2),
    "images with height and width the other way round. They come as [N, 3, height, width]": lambda x: x.mT.contiguous(),
}


def explain(logits: Tensor, images: Tensor, labels: Tensor, enough: float, ask: Ask) -> Diagnosis | None:
    """What is wrong with a network of these logits [N, C] for images, float [N, 3, H, W] in [0, 1], and labels [N], of
    which the share `enough` should be right; None where nothing is found."""
    return (
        _not_finite(logits)
        or _of_chance(images[:SOME], ask)
        or _of_classes(logits, labels, enough)
        or _of_inputs(logits[:SOME], images[:SOME], labels[:SOME], enough, ask)
        or _without_a_choice(logits)
    )


def _not_finite(logits: Tensor) -> Diagnosis | None:
    bad, count = int((~logits.isfinite().all(dim=1)).sum()), len(logits)
    if bad <= count / 2:
        return None
    return Diagnosis("final-logits", f"The logits of {bad:,} of {count:,} images are NaN or infinite.")


def _without_a_choice(logits: Tensor) -> Diagnosis | None:
    """Whether no class wins, or the same one always."""
    count, best = len(logits), logits.amax(dim=1, keepdim=True)
    if (tied := int(((logits == best).sum(dim=1) > 1).sum())) > count / 2:
        return Diagnosis("final-logits", f"The largest logit stands twice for {tied:,} of {count:,} images: none wins.")
    if logits.argmax(dim=1).bincount().max() <= MOST * count:
        return None
    what = "Nearly every image is taken for the same class: are the weights in the file those that were trained, and"
    return Diagnosis("final-logits", f"{what} the batch norms' running statistics, too?")


def _of_chance(images: Tensor, ask: Ask) -> Diagnosis | None:
    """Whether logits are others in a second call, or without the other images of the batch."""
    once, again, alone = ask(images), ask(images), ask(images[:1])
    if once is None or again is None or alone is None:
        return None
    close = 1e-3 * once.abs().max()
    if (once - again).abs().max() > close:
        return Diagnosis(
            "final-chance", "The same images get other logits in each call: in eval mode no chance is left."
        )
    if (alone - once[:1]).abs().max() > close:
        what = (
            "The logits of an image depend on the others of its batch: batch norm uses its running statistics instead."
        )
        return Diagnosis("final-chance", what)
    return None


def _of_classes(logits: Tensor, labels: Tensor, enough: float) -> Diagnosis | None:
    """Whether its classes are the right ones, numbered otherwise."""
    classes = logits.shape[1]
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    counts.index_put_((logits.argmax(dim=1), labels), torch.tensor(1), accumulate=True)
    meant = counts.argmax(dim=1)
    if len(set(meant.tolist())) < classes or counts[range(classes), meant].sum() < enough * len(labels):
        return None
    order = torch.tensor(sorted(range(classes), key=str))
    by_name = any(torch.equal(meant, each) for each in (order, order.argsort()))
    how = "in the order of their names as text, 0, 1, 10, 2, …" if by_name else "in another order"
    return Diagnosis("final-classes", f"It tells the classes apart, and numbers them {how}. Class k is label k.")


def _of_inputs(logits: Tensor, images: Tensor, labels: Tensor, enough: float, ask: Ask) -> Diagnosis | None:
    """Whether it is right on images that were made into something else."""

    def right(found: Tensor) -> float:
        return (found.argmax(dim=1) == labels).double().mean().item()

    shares = {what: right(found) for what, make in INPUTS.items() if (found := ask(make(images))) is not None}
    best = max(shares, key=shares.__getitem__, default="")
    if best and shares[best] >= max(enough - BETTER / 2, right(logits) + BETTER):
        return Diagnosis("final-input", f"It expects {best}.")
    return None
