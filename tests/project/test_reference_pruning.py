"""The reference's pruning (task 3) against networks whose channels are made dead instead of cut out."""

import copy

import pytest
import torch
from networks import NARROW, count, same, scramble, snapshot
from torch import Tensor, nn

from hw7.models import STUDENT_WIDTHS, StudentNet
from hw7.solution import PROJECT, load_solution

pytestmark = pytest.mark.rounding

pruning = load_solution(PROJECT / "reference_solutions" / "hw7").pruning


def test_channel_importance() -> None:
    bn = nn.BatchNorm2d(4)
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([-2.0, 0.0, 1.0, 0.5]))
    importance = pruning.channel_importance(bn)
    assert importance.tolist() == [2, 0, 1, 0.5]
    assert not importance.requires_grad
    importance.zero_()
    assert bn.weight.tolist() == [-2, 0, 1, 0.5]


@pytest.mark.parametrize(
    ("importance", "keep", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.7], 2, [1, 3]),
        ([0.1, 0.9, 0.5, 0.7], 4, [0, 1, 2, 3]),
        ([0.9, 0.1, 0.2], 1, [0]),
        ([1.0, 1.0, 1.0, 1.0], 2, [0, 1]),
        ([0.0, 1.0, 2.0, 1.0, 1.0], 3, [1, 2, 3]),
        ([3.0], 1, [0]),
    ],
)
def test_select_channels(importance: list[float], keep: int, expected: list[int]) -> None:
    chosen = pruning.select_channels(torch.tensor(importance), keep)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == expected


def best(importance: Tensor, keep: int) -> list[int]:
    """The same by Python's sort: falling importance, then rising index."""
    values = importance.tolist()
    return sorted(sorted(range(len(values)), key=lambda index: (-values[index], index))[:keep])


@pytest.mark.parametrize("keep", [1, 17, 100, 255, 256])
def test_select_channels_among_many_ties(keep: int) -> None:
    importance = torch.randint(5, (256,), generator=torch.Generator().manual_seed(keep)).float()
    assert pruning.select_channels(importance, keep).tolist() == best(importance, keep)


@pytest.mark.parametrize("keep", [0, -1, 5])
def test_select_channels_refuses(keep: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.4"):
        pruning.select_channels(torch.rand(4), keep)


def without(model: StudentNet, widths: tuple[int, ...]) -> StudentNet:
    """The model as it is, with the channels that must go made dead instead of cut out."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for stage, keep in enumerate(widths[:-1]):
            bn = model.blocks[stage].bn  # of stage + 1: it scales what comes out of `stage`
            gone = sorted(set(range(bn.num_features)) - set(best(bn.weight.abs(), keep)))
            bn.weight[gone] = 0
            bn.bias[gone] = 0
    return model


WIDTHS = [(4, 6, 8, 13, 24, 24, 24, 10), (4, 6, 8, 20, 24, 24, 5, 10), (4, 6, 8, 7, 1, 23, 12, 10), NARROW]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_slimming_leaves_out_nothing_but_the_least_important_channels(widths: tuple[int, ...], training: bool) -> None:
    model = scramble(StudentNet(NARROW, num_classes=5).double())
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    slim = pruning.network_slimming(model, widths)
    assert slim.widths == widths
    assert count(slim) == count(StudentNet(widths, num_classes=5))
    # Dropped terms are exact zeros; the other sums run in another order.
    expected = without(model, widths).train(training)(images)
    torch.testing.assert_close(slim.train(training)(images), expected, rtol=1e-9, atol=1e-11)


def test_slimming_away_dead_channels_changes_nothing() -> None:
    """In float32 at full width, as students see it: they agree to 1e-6 of the logits' size."""
    widths = (16, 32, 64, 100, 200, 150, 30, 256)
    model = without(scramble(StudentNet()), widths).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before, after = model(images), pruning.network_slimming(model, widths).eval()(images)
    assert (before - after).abs().max() < 1e-6 * max(1, before.abs().max())


@pytest.mark.parametrize("widths", [WIDTHS[2], NARROW])
def test_slimming_leaves_the_model_alone_and_shares_nothing(widths: tuple[int, ...]) -> None:
    model = scramble(StudentNet(NARROW))
    before = snapshot(model)
    slim = pruning.network_slimming(model, list(widths))
    storages = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    assert not storages & {tensor.untyped_storage().data_ptr() for tensor in slim.state_dict().values()}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in slim.parameters())
    assert same(before, slim) is (widths == NARROW)  # equal widths give a copy
    with torch.no_grad():
        for tensor in slim.state_dict().values():
            tensor.zero_()
    assert same(before, model)


@pytest.mark.parametrize(
    "widths",
    [
        NARROW[:7],
        (*NARROW, 10),
        (),
        (4, 6, 8, 21, 24, 24, 24, 10),
        (4, 6, 8, 20, 24, 0, 24, 10),
        (4, 6, 8, 20, -1, 24, 24, 10),
        (3, 6, 8, 20, 24, 24, 24, 10),
        (4, 6, 7, 20, 24, 24, 24, 10),
        (4, 6, 8, 20, 24, 24, 24, 9),
    ],
)
def test_slimming_refuses_widths(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="network_slimming"):
        pruning.network_slimming(StudentNet(NARROW), widths)


# As the report's networks count: the parameters after each step of its three keep rates.
LADDERS = {
    0.975: (245444, 236066, 226868, 217850, 209012, 200354, 193422, 186324, 178146, 171606,
            164916, 158621, 153567, 147234, 142362, 136508, 131814, 127200, 122666, 118212),
    0.95: (236066, 217850, 200354, 185091, 171606, 158621, 146136, 135204, 125940, 116996),
    0.9: (216518, 183578, 156084, 132858, 114810),
}  # fmt: skip


@pytest.mark.parametrize("keep_rate", LADDERS)
def test_width_schedule_climbs_down_the_reports_ladders(keep_rate: float) -> None:
    ladder = LADDERS[keep_rate]
    schedule = pruning.width_schedule(STUDENT_WIDTHS, keep_rate, len(ladder))
    assert all(isinstance(widths, tuple) for widths in schedule)
    assert tuple(count(StudentNet(widths)) for widths in schedule) == ladder


def test_width_schedule_keeps_at_least_one_channel() -> None:
    assert pruning.width_schedule((1, 2, 3, 4, 5, 6, 7, 8), 0.5, 3)[2] == (1, 2, 3, 1, 1, 1, 1, 8)
    assert pruning.width_schedule(STUDENT_WIDTHS, 0.5, 0) == []


@pytest.mark.parametrize("keep_rate", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_width_schedule_refuses(keep_rate: float) -> None:
    with pytest.raises(ValueError, match="keep_rate"):
        pruning.width_schedule(STUDENT_WIDTHS, keep_rate, 3)


def test_iterative_prune_goes_on_from_what_finetuning_made() -> None:
    model = scramble(StudentNet(NARROW))
    original = snapshot(model)
    handed: list[StudentNet] = []
    arrived: list[dict[str, Tensor]] = []

    def finetune(network: StudentNet) -> StudentNet:
        handed.append(network)
        arrived.append(snapshot(network))
        scramble(network, seed=len(handed))  # other channels are the important ones from now on
        with torch.no_grad():
            network.fc.bias += 1
        return StudentNet(NARROW)  # to be ignored

    networks = pruning.iterative_prune(model, 0.8, 4, finetune)
    assert [network.widths for network in networks] == pruning.width_schedule(NARROW, 0.8, 4)
    assert all(network is seen for network, seen in zip(networks, handed, strict=True))
    for before, state, network in zip([model, *networks], arrived, networks, strict=False):
        assert same(state, pruning.network_slimming(before, network.widths))
    assert same(original, model)
