"""Where in a right network its layers stand, in words: "the depthwise convolution of blocks 2 to 5"."""

from collections.abc import Iterable, Sequence

from hw7.checks.diagnosis.models.layers import Layer
from hw7.support.words import joined

PARTS = ("", "first ", "second ", "shortcut's ", "")  # of a residual block, by the thousands of a place
SUM = 4
STAGES = 10  # a place of a residual network: 42 is the second block of stage 4
SHOWN = 3  # places that are listed one by one


def runs_of(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers that follow each other, together."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _in_runs(numbers: Sequence[int]) -> str:
    """ "2 to 5 and 7"."""
    runs = runs_of(numbers)
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else joined([str(n) for n in run]) for run in runs]
    return joined(words) if len(words) < 3 or all(len(run) < 3 for run in runs) else ", ".join(words)


class Places:
    """The places of a right network's layers. noun: what its blocks are called, as in its evidence."""

    def __init__(self, layers: Sequence[Layer], noun: str) -> None:
        self.layers, self.noun = layers, noun
        self.anchors: list[tuple[str, int]] = []  # of each layer: what it is or follows, and the number of its block
        last, first = "", True
        for layer in layers:
            part, block = divmod(layer.place, 1000)
            if layer.family == "convolution":
                last, first = PARTS[min(part, SUM)] + self._kind(layer, first), False
            elif layer.family == "add":
                last = "addition"
            elif layer.family in ("global", "linear"):
                last, block = {"global": "global average", "linear": "linear layer"}[layer.family], 0
            self.anchors.append((last, block))
        self.blocks: dict[str, list[int]] = {}
        for role, block in self.anchors:
            self.blocks.setdefault(role, [])
            if block not in self.blocks[role]:
                self.blocks[role].append(block)

    def _kind(self, layer: Layer, first: bool) -> str:
        kind = "pointwise convolution" if layer.facets["kernel"] == (1, 1) else "depthwise convolution"
        plain = self.noun == "convolution" or layer.place // 1000 == 3
        if first and self.noun in ("block", "stage"):
            return "first convolution"
        return "convolution" if plain else kind

    def of(self, indices: Iterable[int]) -> str:
        """What these layers are, or follow: "the first convolution and the depthwise convolution of every block"."""
        blocks: dict[str, list[int]] = {}
        for index in indices:
            role, block = self.anchors[index] if index >= 0 else ("beginning", 0)
            if block not in blocks.setdefault(role, []):
                blocks[role].append(block)
        alike: dict[tuple[tuple[int, ...], bool], list[str]] = {}
        for role, found in blocks.items():
            whole = len(found) > 1 and found == self.blocks.get(role)
            alike.setdefault((() if whole else tuple(found), whole), []).append(role)
        return joined([self._of_blocks(roles, blocks, whole) for (blocks, whole), roles in alike.items()])

    def _of_blocks(self, roles: list[str], blocks: Sequence[int], whole: bool) -> str:
        if self.noun == "convolution" and roles == ["convolution"]:
            return (
                "every convolution"
                if whole
                else f"convolution{'s' if len(blocks) > 1 else ''} {_in_runs(sorted(blocks))}"
            )
        if whole and roles == ["shortcut's convolution"]:
            return "the convolution of every shortcut"
        if roles == ["first depthwise convolution", "second depthwise convolution"]:
            head = "both depthwise convolutions"
        elif roles == ["first pointwise convolution", "second pointwise convolution"]:
            head = "both pointwise convolutions"
        else:
            head = joined([f"the {role}" for role in roles])
        if not whole and not any(blocks):
            return head
        return f"{head} of {'every block' if whole else self.named(sorted(blocks))}"

    def named(self, blocks: Sequence[int]) -> str:
        """ "blocks 2 to 5", "stage 4", "stage 2, block 1"."""
        if self.noun != "stage":
            return f"{self.noun}{'s' if len(blocks) > 1 else ''} {_in_runs(blocks)}"
        all_blocks = {block for found in self.blocks.values() for block in found if block}
        stages = sorted({block // STAGES for block in blocks})
        if {block for block in all_blocks if block // STAGES in stages} == set(blocks):
            return f"stage{'s' if len(stages) > 1 else ''} {_in_runs(stages)}"
        if len(blocks) > 1 and len({block % STAGES for block in blocks}) == 1:
            which = {1: "first", 2: "second"}[blocks[0] % STAGES]
            return f"the {which} block of stages {_in_runs(stages)}"
        words = [f"stage {block // STAGES}, block {block % STAGES}" for block in blocks]
        return joined(words) if len(words) <= SHOWN else f"{words[0]} and {len(words) - 1} more blocks"
