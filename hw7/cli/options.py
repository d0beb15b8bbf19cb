"""Options that several commands share: each is written once, with its help. Nothing heavy is imported here."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

OptimizerName = StrEnum("OptimizerName", "adamw sgd")
ScheduleName = StrEnum("ScheduleName", "constant cosine")

Data = Annotated[
    str,
    typer.Option("--data", help="Where the images come from: plates, plates:SEED, food11:DIR or fashion-mnist[:DIR]."),
]
Solution = Annotated[
    Path | None,
    typer.Option(help="The folder that holds your `solution` package. Default: the reference, or assignments/hw7."),
]
Out = Annotated[Path, typer.Option(help="The folder for the results. Run again, an unfinished run goes on.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …; auto takes a CUDA or ROCm GPU where there is one.")]
Seed = Annotated[int, typer.Option(help="Another seed gives other first weights and another order of the images.")]
Size = Annotated[int, typer.Option(min=32, help="Side of the images in pixels.")]
Limit = Annotated[int | None, typer.Option(min=1, help="How many training images to use. Default: all.")]
Epochs = Annotated[int, typer.Option(min=1, help="How often each image is seen.")]
Batch = Annotated[int, typer.Option(min=2, help="Images in one step.")]
Rate = Annotated[float, typer.Option(min=0.0, help="The learning rate, at the start.")]
Schedule = Annotated[ScheduleName, typer.Option(help="constant, as in the report, or cosine, for short runs.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Weights to start from (a safetensors file of the same network).")
]
NETWORK_NAMES = "teacher, small_resnet18, student_cnn, student_dw, student_net, final, plain, depthwise or grouped"
Network = Annotated[str, typer.Argument(help=f"Which network: {NETWORK_NAMES}.")]
