"""Options that several commands share: each is written once, with its help. Nothing heavy is imported here."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hw7.support.system import number

OptimizerName = StrEnum("OptimizerName", "adamw sgd")
ScheduleName = StrEnum("ScheduleName", "constant cosine")

Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="<source>",
        help="Where the images come from: plates, plates:SEED, food11:DIR or fashion-mnist[:DIR].",
    ),
]
Solution = Annotated[
    Path | None,
    typer.Option(help="The folder that holds your `solution` package. Default: the reference, or assignments/hw7."),
]
Out = Annotated[Path, typer.Option(help="The folder for the results. Run again, an unfinished run goes on.")]
Device = Annotated[
    str, typer.Option(metavar="<device>", help="cpu, cuda, cuda:1 …; auto takes a CUDA or ROCm GPU where there is one.")
]
Seed = Annotated[int, number("Another seed gives other first weights and another order of the images.")]
Size = Annotated[int, number("Side of the images in pixels.", least=32)]
Limit = Annotated[int | None, number("How many training images to use. Default: all.", least=1)]
Epochs = Annotated[int, number("How often each image is seen.", least=1)]
Batch = Annotated[int, number("Images in one step.", least=2)]
Rate = Annotated[float, number("The learning rate, at the start.", least=0, kind=float)]
Optimizer = Annotated[OptimizerName, typer.Option(help="adamw, as in the report, or sgd, without momentum.")]
Schedule = Annotated[ScheduleName, typer.Option(help="constant, as in the report, or cosine, for short runs.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Weights to start from (a safetensors file of the same network).")
]
NETWORK_NAMES = "teacher, small_resnet18, student_cnn, student_dw, student_net, final, plain, depthwise or grouped"
Network = Annotated[str, typer.Argument(metavar="NETWORK", help=f"Which network: {NETWORK_NAMES}.")]
