"""Networks whose outputs tell the mode of each of their modules, and an optimizer that treats parameters unlike."""

from typing import Any

from torch import Tensor, nn, optim

from hw7.models import StudentNet


class Watchful(nn.Module):
    """A network for images [N, 3, H, W] whose logits [N, C] are multiplied by 1 + the number of its modules in the
    wrong mode, as dropout, stochastic depth and modules of one's own would change them.

    wanted: whether train mode is the right one. beside: a module that it holds and that does not count.
    """

    def __init__(self, network: StudentNet, wanted: bool, beside: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.beside = network, beside
        self.more = nn.ModuleList([nn.Sequential(nn.Dropout(0.5), nn.ModuleList([nn.Identity()]))])
        self.wanted, self.seen = wanted, 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += 1
        logits: Tensor = self.network(images)
        return logits * (1 + sum(module.training != self.wanted for module in self.own_modules()))

    def own_modules(self) -> list[nn.Module]:
        others = set() if self.beside is None else set(self.beside.modules())
        return [module for module in self.modules() if module not in others]


MOMENTUM = 0.9


def uneven_groups(network: StudentNet, rate: float) -> list[dict[str, Any]]:
    """The groups of `uneven_optimizer`, each with all of its settings."""
    last = list(network.fc.parameters())
    blocks = [parameter for block in network.blocks for parameter in block.parameters()]
    rest = [*network.stem.bn.parameters(), *blocks]
    return [
        {"params": rest, "lr": rate, "weight_decay": 0.0},
        {"params": last, "lr": rate / 4, "weight_decay": 0.1},
    ]


def uneven_optimizer(network: StudentNet, rate: float) -> optim.Optimizer:
    """SGD with momentum; the last layer has a rate and a decay of its own, and the stem's weight is not trained."""
    return optim.SGD(uneven_groups(network, rate), lr=rate, momentum=MOMENTUM)
