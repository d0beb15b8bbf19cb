"""Bug 3: all weights at 8 bits cost this network little, and yet its outputs are far off.

Run this file: it prints by how much the outputs move when a network's state_dict goes through `small`, and by how much
with the convolution's and the linear layer's weights alone. Fix `small`; `pytest -m bugs` tells whether you have.
"""

import torch
from torch import Tensor, nn


def on_256_levels(tensor: Tensor) -> Tensor:
    """Every entry replaced by the nearest of 256 evenly spaced levels between the smallest and the largest."""
    low, high = tensor.min().item(), tensor.max().item()
    levels = torch.linspace(low, high, 256)
    return levels[(tensor[..., None] - levels).abs().argmin(dim=-1)]


def small(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's state_dict with its weights on 256 levels each; what must stay exact comes back as it is."""
    ### BEGIN BROKEN
    # return {
    #     name: on_256_levels(tensor) if tensor.is_floating_point() else tensor.clone()
    #     for name, tensor in state_dict.items()
    # }
    ### END BROKEN
    ### BEGIN SOLUTION
    # A batch norm divides by the root of its running variance: among variances from 0.001 to 100, a step of 0.4 is
    # everything to the small ones.
    exact = ("running_mean", "running_var")
    return {
        name: on_256_levels(tensor) if tensor.is_floating_point() and not name.endswith(exact) else tensor.clone()
        for name, tensor in state_dict.items()
    }
    ### END SOLUTION


def example_network() -> nn.Module:
    """Conv, batch norm, linear; the channels' variances reach from 0.001 to 100, as they do in trained networks."""
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(16, 4)).eval()  # fmt: skip


def example_state() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    state = {
        name: torch.rand(tensor.shape, generator=random) - 0.5 if tensor.is_floating_point() else tensor
        for name, tensor in example_network().state_dict().items()
    }
    state["1.running_var"] = torch.logspace(-3, 2, 16)
    return state


if __name__ == "__main__":
    network, state = example_network(), example_state()
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    weights = ("0.weight", "5.weight")
    coarse = small(state)
    with torch.no_grad():
        network.load_state_dict(state)
        right = network(images)
        for what, changed in (
            ("all of it", coarse),
            ("weights alone", state | {name: coarse[name] for name in weights}),
        ):
            network.load_state_dict(changed)
            off = (network(images) - right).abs().max() / right.abs().max()
            print(f"{what}: outputs move by up to {off:.1%} of the largest")
