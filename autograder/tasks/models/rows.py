"""Right networks as rows of `hw7.checks.rows`, each with its block: what a wrong one is held against."""

from collections.abc import Iterator

from autograder.tasks.models.oracle import Act, Conv, Linear, Net, Norm, Pool, Residual
from hw7.checks.rows import IMAGES, NOTHING, Row

MAIN, SHORTCUT, SUM = (1000, 2000), 3000, 4000  # parts of a residual block: its two convolutions, beside, after


class _Rows:
    """The rows of a network. noun: what its places are: "convolution", "block" (after the first convolution), "stage",
    or "" where there is one block."""

    def __init__(self, noun: str) -> None:
        self.noun, self.rows = noun, list[Row]()
        self.convolutions = self.weights = self.blocks = 0

    def add(
        self, kind: str, place: int, source: int, *numbers: float, second: int = NOTHING, weighted: bool = False
    ) -> int:
        self.weights += weighted
        self.rows.append(Row(kind, numbers, (), (source, second), self.weights if weighted else -1, place))
        return len(self.rows) - 1

    def place(self) -> int:
        return {"convolution": self.convolutions, "block": self.convolutions // 2}.get(self.noun, 0)

    def through(self, net: Net, source: int, parts: Iterator[int] | None = None) -> int:
        """Adds the layers, and gives the last row. parts: of a residual block, one for each pair of convolutions."""
        part, seen = 0, 0
        for layer in net:
            match layer:
                case Conv(inputs, outputs, size, stride, groups, padding, bias):
                    self.convolutions += 1
                    if parts is not None and (seen := seen + 1) % 2:
                        part = next(parts, part)
                    pad = size // 2 if padding is None else padding
                    sizes = outputs, inputs, size, size, stride, stride, pad, pad, 1, 1, groups, bias
                    source = self.add("convolution", part or self.place(), source, *sizes, weighted=True)
                case Norm(channels):
                    numbers = channels, 1e-5, 0.1, 0, 1, 1
                    source = self.add("norm", part or self.place(), source, *numbers, weighted=True)
                case Linear(inputs, outputs):
                    source = self.add("linear", 0, source, inputs, outputs, 1, weighted=True)
                case Pool(0):
                    source = self.add("mean", 0, source, 1)
                case Pool(size, stride, padding):
                    place = part or self.place()
                    source = self.add("pool", place, source, 0, size, size, stride, stride, padding, padding, 0)
                case Act(top):
                    after = SUM + self.block() if self.rows and self.rows[-1].kind == "add" else part or self.place()
                    source = self.add("clamp", after, source, 0, top)
                case Residual(main, side):
                    self.blocks += 1
                    end = self.through(main, source, iter([each + self.block() for each in MAIN]))
                    beside = self.through(side, source, iter([SHORTCUT + self.block()])) if side else source
                    source = self.add("add", SUM + self.block(), end, 1, second=beside)
        return source

    def block(self) -> int:
        """Stage and block: 42 is the second block of stage 4."""
        return 10 * ((self.blocks + 1) // 2) + (self.blocks + 1) % 2 + 1


def rows_of(net: Net, noun: str = "") -> list[Row]:
    """The rows of a network in eval mode. noun: what its places are called."""
    rows = _Rows(noun)
    last = rows.through(net, IMAGES)
    rows.add("output", 0, last)
    return rows.rows
