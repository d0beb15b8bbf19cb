"""Passes over the data: which images a step sees, how they are augmented, and what is measured of a network."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import (
    TRAINING,
    VALIDATION,
    network,
    run,
    split,
)
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7.data.augment import Augmentation
from hw7.data.source import Split
from hw7.training.epoch import batches, evaluate, evaluation_batch, predict
from hw7.training.loop import Phase, train


def numbered(count: int) -> Split:
    """Image i is as bright as its number, so that a step can tell which images it got; its label is i, too."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return Split(images, torch.arange(count), tuple(map(str, range(count))), "numbered", "training")


# ---- what an epoch is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(20, 8, [8, 8, 4]), (17, 8, [8, 9]), (16, 8, [8, 8]), (5, 8, [5]), (9, 8, [9]), (2, 1, [2]), (1, 8, [1])],
)
def test_batches_hold_every_index_and_none_is_of_one(count: int, size: int, sizes: list[int]) -> None:
    order = torch.randperm(count)
    parts = batches(order, size)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts), order)


def recorded(tmp_path: Path, count: int = 17, **changes: object) -> list[list[list[int]]]:
    """By epoch and batch: the numbers of the images that the step saw."""
    seen: list[list[list[int]]] = []
    per_epoch = len(batches(torch.arange(count), 8))

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        numbers = (images[:, 0, 0, 0] * 255).round().int().tolist()
        assert (images == images[:, :1, :1, :1]).all()
        assert labels.tolist() == numbers  # each image came with its own label
        if not seen or len(seen[-1]) == per_epoch:
            seen.append([])
        seen[-1].append(numbers)
        return torch.zeros(())

    net = nn.Sequential(nn.Flatten(), nn.Linear(48, count))
    data = numbered(count)
    train(net, data, data, (Phase(3, batch=8),), tmp_path, step=step, **changes)  # type: ignore[arg-type]
    return seen


def test_each_image_is_seen_once_an_epoch_in_a_new_order(tmp_path: Path) -> None:
    epochs = recorded(tmp_path / "1")
    assert len(epochs) == 3
    for each in epochs:
        assert sorted(chain(*each)) == list(range(17))
        assert [len(batch) for batch in each] == [8, 9]  # the last one is kept, and is not one image
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert recorded(tmp_path / "2") == epochs
    assert recorded(tmp_path / "3", seed=1) != epochs


def test_an_epochs_loss_is_the_mean_over_images(tmp_path: Path) -> None:
    sizes: list[int] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        sizes.append(len(images))
        return torch.tensor(float(len(sizes)))

    history = run(tmp_path, step=step, phases=(Phase(1, batch=8),))[0].history
    assert sizes == [8, 8, 4]
    assert history[0].loss == (8 * 1 + 8 * 2 + 4 * 3) / 20


def test_the_images_are_augmented_by_sample_and_epoch(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        seen.append(images)
        return torch.zeros(())

    same = replace(TRAINING, images=TRAINING.images[:1].expand(20, -1, -1, -1).contiguous())
    run(
        tmp_path,
        training=same,
        step=step,
        phases=(Phase(2, batch=20),),
        augmentation=Augmentation(),
        validation=VALIDATION,
    )
    assert len(seen[0].flatten(1).unique(dim=0)) == 20  # one image, twenty ways
    assert not torch.equal(seen[0].sort(dim=0).values, seen[1].sort(dim=0).values)
    assert 0 <= min(images.min() for images in seen) <= max(images.max() for images in seen) <= 1


# ---- measuring -------------------------------------------------------------------------------------------------


def test_evaluate_against_a_computation_by_hand() -> None:
    data = split(evaluation_batch(VALIDATION.images) + 44, "validation")  # two batches, the second smaller
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(768, 3))
    net.train()
    loss, accuracy = evaluate(net, data)

    weight, bias = (p.detach().numpy().astype(np.float64) for p in net[2].parameters())
    logits = data.images.numpy().reshape(len(data), -1).astype(np.float64) / 255 @ weight.T + bias
    labels = data.labels.numpy()
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # float32 logits near 1 from sums of 768 terms: 1e-6 each at most, and the mean of the losses is no worse
    assert loss == pytest.approx(-np.log(likelihood[np.arange(len(labels)), labels]).mean(), abs=1e-6)
    assert accuracy == (logits.argmax(axis=1) == labels).mean()


def test_predicting_changes_nothing_and_does_not_depend_on_company() -> None:
    net = network().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    logits = predict(net, VALIDATION.images)
    assert not logits.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    alone = predict(net, VALIDATION.images[:1])
    assert torch.allclose(alone, logits[:1], atol=1e-6)  # float32 in another order; a batch's statistics move it by 0.1
