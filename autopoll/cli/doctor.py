"""Walking every hop of a question, to name what is broken and its mend."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.interrupt import interruptible
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json, say_under
from autopoll.errors import Untrusted, UsageError

if TYPE_CHECKING:
    from autopoll.ops.doctor.findings import DoctorFinding
    from autopoll.ops.doctor.walk import DoctorReport

_MARKS = {"ok": "ok  ", "degraded": "WARN", "failed": "FAIL", "unknown": "?   "}


@command(
    "doctor",
    fields='{"verdict":"ok|degraded|down","first":{…}|null,"fixed":[…],"checks":[{"hop","name","ok",\n'
    ' "state":"ok|degraded|failed|unknown","detail","mend"}]}; with --stacks {"process","stacks"}',
    example="autopoll doctor\nautopoll doctor --stacks worker\n"
    "autopoll doctor --bundle report.tar.gz",
)
@click.option("--fix", is_flag=True, help="Mend modes and missing folders, which has no risk.")
@click.option("--stacks", metavar="NAME", help="Show where the threads of a process are.")
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what a report of a fault needs into a .tar.gz, without secrets.",
)
def doctor(cli: CommandLine, fix: bool, stacks: str | None, bundle: Path | None) -> int:
    """Walk every hop of a question and name the first that is broken, and its mend.

    It works with everything down, and changes nothing but what --fix says. Exits 0 ok, 1 degraded,
    2 down, 3 supervisord hung, 4 settings that cannot be used.
    """
    if stacks is not None:
        if fix or bundle:
            raise UsageError("--stacks goes alone", "Leave --fix and --bundle out.")
        return _show_stacks(cli, stacks)
    from autopoll.ops.doctor import walk
    from autopoll.ops.doctor.bundle import write_bundle
    from autopoll.ops.doctor.fixes import fix as mend
    from autopoll.ops.doctor.subject import Subject

    fixed: list[str] = []
    names: list[str] = []
    try:
        home = cli.home_as_it_is
    except Untrusted as error:
        if fix or bundle:
            raise
        found = walk.refused(error)
    else:
        with ProgressLine(cli.json) as progress, interruptible(_words):
            if fix:
                fixed = list(mend(Subject(home)))
            subject = Subject(home)
            found = walk.examine(subject, progress.say)
            names = write_bundle(subject, found, bundle, progress.say) if bundle else []
    cli.code = found.exit_code
    if cli.json:
        print_json(_fields(found, fixed))
        return found.exit_code
    for line in fixed:
        say(f"fixed: {line}")
    _print(found)
    if bundle:
        say(f"\nwrote {len(names)} parts to {bundle}; read it before you give it away")
    return found.exit_code


def _words() -> tuple[str, str]:
    return "nothing was changed but what is said above", "Run it again when you like."


def _show_stacks(cli: CommandLine, name: str) -> int:
    from autopoll.ops.doctor.stacks import stacks

    text = stacks(cli.home_as_it_is, name)
    if cli.json:
        print_json({"process": name, "stacks": text})
    else:
        say(text)
    return 0


def _fields(found: "DoctorReport", fixed: list[str]) -> dict[str, object]:
    checks = [{"hop": hop.name, **_check(each)} for hop in found.hops for each in hop.findings]
    first = found.first
    return {
        "verdict": found.verdict,
        "first": _check(first) if first else None,
        "fixed": fixed,
        "checks": checks,
    }


def _check(finding: "DoctorFinding") -> dict[str, object]:
    return {
        "name": finding.name,
        "ok": finding.is_good,
        "state": finding.state.value,
        "detail": finding.detail,
        "mend": finding.mend,
    }


def _print(found: "DoctorReport") -> None:
    first = found.first
    if first is None:
        say("ok: every hop of a question works")
    else:
        say_under("", f"{found.verdict}: {first.name}: {first.detail}")
        if first.mend:
            say(f"  {first.mend}")
    say()
    for hop in found.hops:
        for each in hop.findings:
            mark = f"{_MARKS[each.state.value]}  "
            say_under(mark, f"{hop.name}: {each.name}: {each.detail}")
            if each.mend and each is not first:  # on one line, which can be copied
                say(f"      {each.mend}")
