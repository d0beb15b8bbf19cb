"""Why a network that is handed in guesses: made-up networks, each wrong in one way, and one that is right."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hw7.checks.diagnosis.final import explain

Network = Callable[[Tensor], Tensor]
ENOUGH = 0.4
_generator = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(11, 3 * 8 * 8, generator=_generator)
IMAGES = torch.rand(132, 3, 64, 64, generator=_generator)
IMAGES = 0.5 * IMAGES + 0.5 * F.interpolate(IMAGES[:, :, :8, :8], size=64)  # with something to see
MEAN, STD = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def right(images: Tensor) -> Tensor:
    """Logits [N, 11] of images [N, 3, 64, 64] in [0, 1]; sees places, colours and brightness, and no other size."""
    tiles = F.adaptive_avg_pool2d(images[:, :, :64, :64], 8).flatten(1) - 0.5
    bright = images.mean(dim=(1, 2, 3))[:, None]
    size = images.shape[-1] / 64
    return tiles @ WEIGHT.T + 50 * ((bright - 0.5).abs() > 0.2) * torch.arange(11) + 50 * (size - 1) * torch.arange(11)


LABELS = right(IMAGES).argmax(dim=1)
ORDER = torch.tensor(sorted(range(11), key=str))


def twice(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="bilinear")


WRONG: dict[str, Network] = {
    "It expects pixels from 0 to 255": lambda x: right(x / 255),
    "It expects normalised images": lambda x: right(x * STD + MEAN),
    "It expects images that it has not normalised": lambda x: right((x - MEAN) / STD),
    "It expects images from -1 to 1": lambda x: right((x + 1) / 2),
    "It expects images that it has not moved to -1..1": lambda x: right(2 * x - 1),
    "It expects the channels in another order": lambda x: right(x.flip(1)),
    "It expects images of half the size": lambda x: right(twice(x)),
    "It expects images with height and width": lambda x: right(x.mT),
    "as text, 0, 1, 10, 2": lambda x: right(x)[:, ORDER],
    "numbers them in another order": lambda x: right(x).roll(1, dims=1),
    "The same images get other logits in each call": lambda x: right(x) + 99 * torch.randn(len(x), 11),
    "depend on the others of its batch": lambda x: right(x - x.mean(dim=0) + 0.5 * x.mean()),
    "The logits of 132 of 132 images are NaN": lambda x: right(x) / 0,
    "stands twice for 132 of 132": lambda x: torch.zeros(len(x), 11),
    "the same class": lambda x: right(x) + 99 * torch.eye(11)[3],
}


def said(network: Network) -> str:
    found = explain(network(IMAGES), IMAGES, LABELS, ENOUGH, network)
    return found.message if found else ""


@pytest.mark.parametrize("what", WRONG)
def test_says_what_is_wrong(what: str) -> None:
    torch.manual_seed(0)
    assert what in said(WRONG[what])


def test_says_nothing_of_a_network_that_is_only_bad() -> None:
    noise = torch.randn(3 * 8 * 8, 11, generator=torch.Generator().manual_seed(1))
    assert said(lambda x: F.adaptive_avg_pool2d(x[:, :, :64, :64], 8).flatten(1) @ noise) == ""


def test_asks_in_vain_where_nothing_comes_back() -> None:
    assert explain(torch.randn(132, 11), IMAGES, LABELS, ENOUGH, lambda images: None) is None
