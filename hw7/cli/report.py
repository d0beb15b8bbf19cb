"""The commands that measure: summary (counts), data (a data set), reproduce (the whole report)."""

import json
import math
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hw7 import HW7Error
from hw7.cli import options
from hw7.support.system import cores, number
from hw7.support.words import counted

if TYPE_CHECKING:
    from hw7.report.reproduce import Reproduction

# Longer ones of `reproduce`.
Profile = Annotated[
    str,
    typer.Option(metavar="<profile>", help="smoke (every part once), notebook, quick (two CPU cores), full (a GPU)."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="<names>", help="Only these experiments and what they need: --only student-c,student-e."),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="<address>", help="The address of a Dask scheduler; its workers, one a GPU, run the experiments."
    ),
]


def summary(
    as_json: Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")] = False,
    layers: Annotated[
        str | None,
        typer.Option(metavar="<network>", help=f"Print this network's layers as well: {options.NETWORK_NAMES}."),
    ] = None,
    size: options.Size = 128,
    solution: options.Solution = None,
) -> None:
    """What the report printed beside what you count. Parameters, bytes, and the pruning ladders."""
    from hw7 import measure
    from hw7.cli.shared import maker_of
    from hw7.report.compare import format_summary, summary_json
    from hw7.report.counting import count
    from hw7.solution import NUM_CLASSES, load_solution, running

    make = maker_of(layers) if layers else None  # before anything is counted and printed
    own = load_solution(solution)
    counts = count(own)
    summed, text = summary_json(counts), format_summary(counts)
    if make:
        with running(f"models: {layers}", own.directory):
            network, shape = make(own, NUM_CLASSES), (3, size, size)
            rows, macs = measure.layer_table(network, shape), measure.macs(network, shape)
            milliseconds = 1000 * measure.latency(network, shape).median_s
        summed["layers"], summed["macs"] = list(map(asdict, rows)), macs
        text += f"\n\n{layers} on a {size} x {size} image\n\n{measure.format_layer_table(rows)}\n"
        text += f"\n{macs:,} multiply-accumulates and {milliseconds:.1f} ms an image"
    typer.echo(json.dumps(summed, indent=1) if as_json else text)


def data(
    source: options.Data = "plates",
    split: Annotated[
        str, typer.Option(metavar="<split>", help="training, validation, testing, or pretraining (plates only).")
    ] = "training",
    size: options.Size = 128,
    limit: Annotated[int | None, number("How many images. Default: all.", least=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the images here, in Food-11's own layout.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG with eight images of every class.")] = None,
) -> None:
    """Look at a data set. What is in it, a sheet of its pictures, or all of them as files."""
    from tabulate import tabulate

    from hw7.data.food11 import free_folder, write_food11
    from hw7.data.load import load_at_least, load_split
    from hw7.report.plots import sample_sheet
    from hw7.support.files import check_place, write_file

    if out:
        free_folder(out, split)
    if sheet:
        check_place(sheet)
    loaded = load_split(source, split, size, limit=limit)
    wrote = []
    if sheet:
        seen = load_at_least(source, split, size, 8, limit)
        write_file(sheet, sample_sheet(seen, each=8))
        more = f", of {len(seen):,} images: so few have not eight of every class" if len(seen) > len(loaded) else ""
        wrote.append(f"\nwrote {sheet}{more}")
    if out:
        wrote.append(f"\nwrote {write_food11(loaded, out)}")
    counts = loaded.labels[loaded.labels >= 0].bincount(minlength=len(loaded.classes)).tolist()
    table = tabulate({"label": range(len(counts)), "class": loaded.classes, "images": counts}, headers="keys")
    typer.echo(f"{source}, {split}: {counted(len(loaded), 'image')} of {size} x {size} pixels\n")
    typer.echo("\n".join([table if loaded.labelled else "Their labels are not known.", *wrote]))


def reproduce(
    out: options.Out,
    source: options.Data = "plates",
    profile: Profile = "quick",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    only: Only = None,
    pretraining: Annotated[
        str, typer.Option(metavar="<pictures>", help="What the teacher has seen before: plates, imagenet, or auto.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="<precision>", help="float32, bfloat16, or auto: bfloat16 on a GPU that has it.")
    ] = "auto",
    jobs: Annotated[
        int | None,
        number("How many experiments to run at a time. Default: one a core; one on a GPU.", least=1),
    ] = None,
    dask: Dask = None,
    minutes: Annotated[
        float | None,
        number("Stop in good time (exit code 75); run again, it goes on where it stopped.", least=0, kind=float),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="In the end, put what other machines need to go on into PACK.01, PACK.02 … of 16 MB."),
    ] = None,
    max_mb: Annotated[float, number("How many MB (10^6 bytes) these may have in all.", least=0, kind=float)] = 112.0,
    unpack: Annotated[
        Path | None, typer.Option(help="First, fill OUT, which holds no runs yet, from UNPACK.01, UNPACK.02 ….")
    ] = None,
    solution: options.Solution = None,
) -> None:
    """Run the whole report. What is missing in OUT, then results.json, report.md and report.html there."""
    from hw7.support.files import alone_in, check_place

    if pack:
        check_place(Path(f"{pack}.01"))  # now, and not after hours
    until = math.inf if minutes is None else time.time() + 60 * minutes
    pretraining = _pretraining(pretraining, source, profile)
    names = [name for names in only or () for name in names.split(",")]
    with ExitStack() as stack:
        stack.enter_context(alone_in(out))  # before torch is imported and data are read: a second run hears at once
        from hw7.cli.shared import usable_device
        from hw7.report import carry
        from hw7.report.experiments import EXPERIMENTS, with_needs
        from hw7.report.page import write_report
        from hw7.report.reproduce import Reproduction
        from hw7.solution import load_solution
        from hw7.support.workers import Cluster, SameProcess, Workers
        from hw7.training.loop import TimeIsUp
        from hw7.training.precision import best_precision

        asked = with_needs(names)  # what may be mistyped, first: nothing is unpacked for it
        cluster = stack.enter_context(Cluster(dask)) if dask else None
        there = cluster or SameProcess()
        if device == "auto" or cluster is None:
            device = there.submit(usable_device, device).result()
        if precision == "auto":
            precision = there.submit(best_precision, device).result()
        reproduction = Reproduction(
            source, profile, out, load_solution(solution), device, seed, pretraining, say=_say, precision=precision,
            until=until,
        )  # fmt: skip
        if unpack:
            typer.echo(f"unpacked {carry.unpack(unpack, out)}")
        at_once = len(cluster.threads) if cluster else jobs or (1 if device.startswith("cuda") else min(8, cores()))
        at_once = min(at_once, len(asked) or len(EXPERIMENTS))
        executor = stack.enter_context(Workers(at_once)) if cluster is None and at_once > 1 else cluster
        ended = _ended(reproduction, names, executor, at_once)
        typer.echo(f"wrote {write_report(reproduction)}")
        if pack:
            typer.echo(f"packed {carry.pack(out, pack, max_mb, names)}")
        if isinstance(ended, TimeIsUp):
            typer.echo(f"hw7: {ended}", err=True)
            raise typer.Exit(75)
        if ended:
            raise ended


def _ended(reproduction: "Reproduction", *arguments: Any) -> Exception | None:
    """Runs it; the error that it ended with: what is measured is worth a page all the same.

    Raises that of a folder that is another's, or in use.
    """
    try:
        reproduction.run(*arguments)
    except Exception as error:
        if not reproduction.asked:
            raise
        return error
    return None


def _pretraining(name: str, source: str, profile: str) -> str:
    if name == "auto":
        return "imagenet" if profile == "full" and source.startswith("food11") else "plates"
    if name not in ("plates", "imagenet"):
        raise HW7Error(f"--pretraining must be plates, imagenet or auto, not {name!r}")
    return name


def _say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
