"""Structures: the networks as the report prints them, as tables of layers or as PyTorch prints a module."""

import re
from collections.abc import Callable

from torch import nn

from hw7 import HW7Error, measure
from hw7.report import ledger
from hw7.report.blocks import Block, Folded, Printed, Table, Text, cell
from hw7.report.experiments import NETWORKS
from hw7.solution import NUM_CLASSES, Solution, running
from hw7.support.words import counted

IMAGE = (3, 128, 128)
# What the tables do not say by themselves. {}: figures of the ledger, as printed.
ABOUT = {
    "teacher": "torchvision's ResNet-18 with {q1.teacher.outputs} outputs.",
    "small_resnet18": "ResNet-18 in which every 3x3 convolution of a block is depthwise {q1.dwpw.depthwise.kernel}, "
    "batch norm, ReLU, pointwise {q1.dwpw.pointwise.kernel}; the {q1.dwpw.stem.kernel} stem and the "
    "{q1.dwpw.downsample.kernel} downsamples stay. Without the inner batch norm it would have "
    "{q1.dwpw.without_inner_norm.parameters} parameters.",
    "student_cnn": "{q1.cnn.layers} {q1.cnn.kernel} convolutions without bias ({q1.cnn.channels} channels, strides "
    "{q1.cnn.strides}), each with batch norm and ReLU6; {q1.cnn.pool} x {q1.cnn.pool} max pooling after each of the "
    "first three; global average pooling; a linear layer. Sides of the maps: {q1.cnn.layer_outputs}.",
    "student_dw": "a {q2.student.kernel} convolution of stride {q2.student.stem.stride}, batch norm, ReLU; then "
    "{q2.student.blocks} blocks of depthwise {q2.student.kernel}, batch norm, ReLU, pointwise "
    "{q2.student.pointwise.kernel}, batch norm, ReLU, without bias, of {q2.student.channels} channels, the second and "
    "the fourth with stride 2; global average pooling; a linear layer.",
    "student_net": "a {q3.student.kernel} convolution with bias, batch norm, ReLU6; then {q3.student.blocks} blocks of "
    "depthwise {q3.student.kernel}, batch norm, ReLU6, pointwise {q3.student.pointwise.kernel}, with bias and nothing "
    "after it ({q3.student.channels} channels); max pooling after the first convolution and blocks 1 to 3; global "
    "average pooling; a linear layer.",
}
HEADERS = ("layer", "module", "output shape", "parameters")


def about(network: str, title: str) -> Block:
    """How a network is built, in a sentence."""
    figures = ledger.load()

    def printed(match: re.Match[str]) -> str:
        figure = figures[match[1]]
        return figure.printed.replace("->", "→") or cell(figure.value)  # "->" breaks in two at the end of a line

    return Text(f"{title}: {re.sub(r'{([^}]+)}', printed, ABOUT[network])}")


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
