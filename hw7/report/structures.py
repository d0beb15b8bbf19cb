"""Structures: the networks as the report prints them, as tables of layers or as PyTorch prints a module."""

from collections.abc import Callable

from torch import nn

from hw7 import HW7Error, measure
from hw7.report.blocks import Block, Folded, Printed, Table, Text
from hw7.report.experiments import NETWORKS
from hw7.solution import NUM_CLASSES, Solution, running
from hw7.support.words import counted

IMAGE = (3, 128, 128)
HEADERS = ("layer", "module", "output shape", "parameters")


def layers(solution: Solution, network: str, title: str) -> Block:
    """The table of a network's layers on one image of the report's size, folded under its total."""
    return _folded(solution, network, title, _layer_table)


def printed(solution: Solution, network: str, title: str) -> Block:
    """What print(network) prints, folded under its total."""
    return _folded(solution, network, title, lambda module: Printed(str(module)))


def _folded(solution: Solution, network: str, title: str, block: Callable[[nn.Module], Block]) -> Block:
    try:
        with running(f"models: {network}", solution.directory):
            module = NETWORKS[network](solution, NUM_CLASSES)
            rows = measure.layer_table(module, IMAGE)
            inside = block(module)
    except HW7Error as error:
        return Text(f"{title}: no table of its layers. {error}")
    total = f"{counted(len(rows), 'layer')}, {measure.parameters(module):,} parameters"
    return Folded(f"{title}: {total}", inside)


def _layer_table(network: nn.Module) -> Table:
    rows = measure.layer_table(network, IMAGE)
    shapes = ["" if row.output_shape is None else " × ".join(map(str, row.output_shape)) for row in rows]
    cells = [
        (f"{row.kind}-{number}", row.name, shape, f"{row.parameters:,}")
        for number, (row, shape) in enumerate(zip(rows, shapes, strict=True), start=1)
    ]
    cells.append(("total", "", "", f"{sum(row.parameters for row in rows):,}"))
    return Table(HEADERS, cells, HEADERS[:2])
