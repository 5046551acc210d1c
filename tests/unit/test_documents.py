"""What the documents point at is there: files, headings, tests, commands."""

import ast
import configparser
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from autopoll.cli import commands
from bench.answers import page as answers_page
from bench.answers import table as answers_table
from bench.cost import report
from bench.ipc import page
from bench.peers import page as peers_page
from bench.peers.table import tables
from bench.postgres import page as postgres_page
from bench.postgres.table import scaling
from bench.postgres.table import tables as tables_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
ARCHITECTURE = ROOT / "docs" / "architecture.md"
# A file, and the function in it: `autopoll/worker/worker.py` `Worker.run`.
PLACE = re.compile(r"`((?:autopoll|fifo)/[\w/]+\.py)`(?: `([\w.]+)`)?")
DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef
IN_PROSE = re.compile(r"`([^`]*\bautopoll [^`]+)`")
# A command begins a line or stands behind what starts it; it ends before the next, or a comment.
IN_A_LINE = re.compile(
    r"(?:^|[$&|;(] *|\bsudo (?:-u \S+ )?|\bexec |\b[A-Z_]+=\S+ |\bdo )autopoll((?: (?![#|&;<>])"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s;|)])+)+)"
)


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text())


def anchors(document: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def broken(document: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for text, target in LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists():
            found.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(path):
            found.append(f"{target}: no such heading")
        elif text.startswith("`test_") and f"def {text.strip('`')}(" not in path.read_text():
            found.append(f"{target}: no such test as {text}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document) -> None:
    assert broken(document) == []


def test_a_link_to_a_missing_file_heading_or_test_is_found(tmp_path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "test_there.py").write_text("def test_there(): ...\n")
    good = "# A `b`, c\n[x](#a-b-c) [y](page.md) [`test_there`](test_there.py) [z](https://z.org)\n"
    page.write_text(good)
    assert broken(page) == []
    page.write_text(good + "[x](gone.md) [y](page.md#gone) [`test_gone`](test_there.py)\n")
    assert len(broken(page)) == 3


def test_every_document_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = (target.partition("#")[0] for _, target in LINK.findall(prose(page)))
        pages = ((page.parent / target).resolve() for target in targets if target.endswith(".md"))
        ahead += [each for each in pages if each.exists()]
    assert set(DOCUMENTS) - reached == set()


def printed_commands(document: Path) -> Iterator[list[str]]:
    """Yield the words behind `autopoll` of every command that a page prints, up to the next one."""
    lines = "\n".join(FENCE.findall(document.read_text())).splitlines()
    spans = IN_PROSE.findall(prose(document))
    for line in [*(line for line in lines if not line.startswith("```")), *spans]:
        for words in IN_A_LINE.findall(line.replace("\n", " ")):
            yield re.findall(r"'[^']*'|\"[^\"]*\"|\S+", words)


def complaint(words: list[str]) -> str | None:
    """Return which word of a command line is neither a command nor an option where it stands."""
    command: click.Command = commands
    # With what they run with: click keeps the help option of the first context it was asked in.
    context = click.Context(command, **commands.context_settings)
    ahead = iter(words)
    for word in ahead:
        if word.startswith("-") and not re.fullmatch("--?", word):
            name, _, value = word.rstrip(",.)]").partition("=")
            known = {opt: each for each in command.get_params(context) for opt in each.opts}
            if name not in known and name != "--version":
                return word
            if name in known and takes_a_value(known[name]) and not value:
                next(ahead, None)
        elif isinstance(command, click.Group):
            if re.fullmatch(r"[A-Z]+|…|\.\.\.", word):  # stands for any
                return None
            found = command.get_command(context, word)
            if found is None:
                return word
            command, context = found, click.Context(found, context)
    return None


def takes_a_value(param: click.Parameter) -> bool:
    assert isinstance(param, click.Option)
    return not param.is_flag and not param.count and not param._flag_needs_value


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_printed_exists_and_takes_its_options(document) -> None:
    wrong = [words for words in printed_commands(document) if complaint(words)]
    assert [(complaint(words), words) for words in wrong] == []


def test_a_command_or_an_option_that_is_not_there_is_found(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Type `autopoll shards\nremove x --force`, or `autopoll cancle 3`.\n"
        "```\n$ autopoll status --wacth && autopoll ask --shard main 'why --not'   # as before\n"
        "sudo -u me autopoll shards liist\nautopoll queue --shard a | autopoll ask - --liens\n```\n"
    )
    found = [complaint(words) for words in printed_commands(page)]
    assert sorted(filter(None, found)) == ["--liens", "--wacth", "cancle", "liist"]
    assert found.count(None) == 3


def test_the_tables_of_the_ipc_page_are_made_of_the_figures_that_were_kept() -> None:
    kept = report.read(ROOT / "bench" / "results" / report.NAME)
    assert page.tables(kept.figures) in (ROOT / "docs" / "ipc.md").read_text(), "run: make docs"


def test_the_table_of_other_queues_is_made_of_the_figures_that_were_kept() -> None:
    kept = report.read(ROOT / "bench" / "results" / peers_page.FIGURES)
    assert tables(kept) in (ROOT / "docs" / "performance.md").read_text(), "run: make docs"


def test_the_tables_of_what_extract_finds_are_made_of_the_figures_that_were_kept() -> None:
    page = (ROOT / "docs" / "backends" / "extract.md").read_text()
    assert answers_table.tables(answers_page.kept()) in page, "run: make docs"


def test_the_tables_of_the_page_on_postgresql_are_made_of_the_figures_that_were_kept() -> None:
    kept = report.read(ROOT / "bench" / "results" / postgres_page.FIGURES)
    for name, made in (("postgres.md", tables_of(kept)), ("scaling.md", scaling(kept))):
        assert made in (ROOT / "docs" / name).read_text(), "run: make docs"


def test_the_picture_of_the_rooms_is_what_the_import_contract_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["architecture"]()
    assert made == ARCHITECTURE.read_text(), "run: make docs"


def test_every_place_that_the_architecture_names_exists() -> None:
    named = PLACE.findall(ARCHITECTURE.read_text())
    assert len(named) > 50
    missing = [
        f"{path} {name}"
        for path, name in named
        if not (ROOT / path).is_file() or (name and name not in defined(ROOT / path))
    ]
    assert missing == []


def test_every_dependency_has_its_reason() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lists = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    names = {re.split(r"[^\w.-]", line)[0] for text in lists for line in text.split()}
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert len(names) > 25
    assert {name for name in names if not re.search(rf"\b{name}\b", page)} == set()


def defined(path: Path) -> set[str]:
    """Return the functions, methods and classes of a file: `f`, `C`, `C.m`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{each.name}" for each in node.body if isinstance(each, DEFINITION)
            }
    return names
