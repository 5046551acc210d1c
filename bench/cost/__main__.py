"""What a question costs, measured: `python -m bench.cost`, in a checkout."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli import run
from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json, print_table
from autopoll.errors import Exit, UsageError
from bench import command as command_line

if TYPE_CHECKING:
    from bench.cost.comparison import Change
    from bench.cost.report import Report

DEFAULT_OUT = "build/bench"


def _sections(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    """Return the sections named, each once, in the order of a run."""
    from bench.cost.sections import SECTIONS

    if value is None:
        return None
    named = [name.strip() for name in value.split(",")]
    for name in named:
        if name not in SECTIONS:
            raise UsageError(f"there is no section {name!r}", f"There are: {', '.join(SECTIONS)}.")
    return [name for name in SECTIONS if name in named]


def _scale(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return command_line.scale(value)
    except argparse.ArgumentTypeError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _out(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    if not value:
        raise click.BadParameter("is empty; name a folder", ctx, param)
    return Path(value)


@command(
    "bench",
    fields='{"figures":[…],"failures":[{"section","reason"}],"written":[…],"comparison":[…]};\n'
    '"comparison" is null without --compare; a figure has\n'
    '{"section","name","value","unit","p99","ratio","p99_ratio","target",…}, a comparison\n'
    '{"section","name","was","now","loss"}',
    example="python -m bench.cost\n"
    "python -m bench.cost --only chain,idle --scale 0.1\n"
    "python -m bench.cost --compare build/bench/figures.json --out today",
)
@click.option(
    "--only",
    metavar="NAMES",
    callback=_sections,
    help="The sections to measure, with commas between: chain, ipc, growth, idle, old-way.",
)
@click.option(
    "--scale",
    metavar="FLOAT",
    default="1.0",
    show_default=True,
    callback=_scale,
    help="A share of the full counts, for a quick look: 0.1 is a tenth.",
)
@click.option(
    "--out",
    metavar="DIR",
    default=DEFAULT_OUT,
    show_default=True,
    callback=_out,
    help="Where to write figures.json, figures.md and plots, in place of those there.",
)
@click.option(
    "--compare",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The figures.json of an earlier run on this machine, to compare ratios with.",
)
def bench(
    cli: CommandLine, only: list[str] | None, scale: float, out: Path, compare: Path | None
) -> int:
    """Measure what a question costs beyond the model, beside the floor of this machine.

    Everything is measured in temporary homes on the disk of TMPDIR, else of /var/tmp; your own home
    is not touched. Takes many minutes, and the machine should have nothing else to do. Plots need
    matplotlib.

    Exits 1 when a section failed or, with --compare, when a ratio is worse by more than a quarter
    or missing; 2, before anything is measured, when the earlier run is of another machine. A target
    that is missed is shown, and is no failure.
    """
    from bench.cost import comparison, plot, report, results, sections

    command_line.end_by_signals()
    before = None
    if compare is not None:
        before = report.read(compare)
        comparison.check_machine(before.machine, sections.here())
        _refuse_to_overwrite(compare, out / report.NAME)
    with results.folder(out), ProgressLine(cli.json) as progress:
        now = sections.run(only or list(sections.SECTIONS), scale, progress.say)
        # Nothing was measured: what an earlier run has found is worth more.
        written = results.write(now, out) if now.figures else []
    changes = None if before is None else comparison.compare(before, now, only)
    if cli.json:
        print_json(
            {
                "figures": now.figures,
                "failures": now.failures,
                "written": [str(out / name) for name in written],
                "comparison": changes,
            }
        )
    else:
        _show(now, before, changes)
        say("".join(f"wrote {out / name}\n" for name in written), nl=False, err=True)
        if not plot.is_possible():
            say(plot.LEFT_OUT, err=True)
    is_good = not now.failures and all(change.is_good for change in changes or ())
    return Exit.OK if is_good else Exit.FAILED


def _refuse_to_overwrite(compare: Path, out: Path) -> None:
    if out.exists() and out.samefile(compare):
        raise UsageError(
            f"{compare} would be overwritten by what is compared with it",
            "Choose another folder with --out.",
        )


def _show(now: "Report", before: "Report | None", changes: "list[Change] | None") -> None:
    from bench.cost import comparison, table

    rows = (
        (name, *table.cells(figure))
        for name, figures in table.sections(now.figures)
        for figure in figures
    )
    print_table(("section", *table.HEADINGS), rows, "nothing was measured")
    for failure in now.failures:
        say(f"autopoll: {failure.section} was not measured: {failure.reason}", err=True)
    if before is None or changes is None:
        return
    say()
    print_table(comparison.HEADINGS, map(comparison.row, changes), "there are no ratios to compare")
    if before.scale != now.scale:
        say(
            f"the earlier run had scale {before.scale:g}, this one {now.scale:g}: "
            "small runs differ by chance",
            err=True,
        )
    if bad := [change for change in changes if not change.is_good]:
        say(
            f"autopoll: {len(bad)} of {len(changes)} ratios are worse by more than "
            f"{comparison.ALLOWED:.0%}, or missing; the table shows which\n"
            "  When that is meant, record new figures: make bench",
            err=True,
        )


if __name__ == "__main__":
    sys.exit(run(bench, sys.argv[1:], "python -m bench.cost"))
