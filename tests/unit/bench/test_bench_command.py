"""`python -m bench.cost` over sections that measure nothing: what it writes, says and refuses."""

import json
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from reports import GOOD, MACHINE, figure, report, write_sections

from autopoll.cli import run as run_command
from bench.cost import plot, sections
from bench.cost.__main__ import bench
from bench.cost.sections import here

SLOW = GOOD.replace("1.25", "2.0")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder over the sections given (name -> what they do)."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("AUTOPOLL_DEBUG", raising=False)
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(plot, "is_possible", lambda: False)  # drawing takes seconds
    monkeypatch.syspath_prepend(tmp_path / "modules")
    made = {
        "chain": GOOD,
        "idle": "return [Figure(section='idle', name='cpu', value=1, unit='percent')]",
    }

    def run(*args: str, **bodies: str) -> tuple[int, str, str]:
        table = write_sections(tmp_path / "modules", {**made, **bodies})
        monkeypatch.setattr(sections, "SECTIONS", table)
        for name in table.values():
            sys.modules.pop(name, None)
        code = run_command(bench, list(args), "python -m bench.cost")
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert list((tmp_path / "disk").iterdir()) == [], "left behind"
        return code, out, err

    yield run
    for name in ("fake_chain", "fake_idle"):
        sys.modules.pop(name, None)


def baseline(*figures, **fields) -> str:
    path = Path("baseline.json")
    path.write_bytes(report(*figures, **{"machine": here(), **fields}).encode())
    return str(path)


@pytest.mark.long
def test_a_run_draws_plots(run, monkeypatch) -> None:
    monkeypatch.setattr(plot, "is_possible", lambda: True)
    code, _, err = run()
    assert code == 0
    assert "wrote build/bench/ratios.svg" in err
    assert Path("build/bench/ratios.svg").read_text().startswith("<?xml")


def test_a_run_writes_figures_and_a_page_and_shows_a_table(run) -> None:
    code, out, err = run()
    assert code == 0
    written = {"figures.json", "figures.md"}
    assert {path.name for path in Path("build/bench").iterdir()} == written
    assert all(f"wrote build/bench/{name}" in err for name in written)
    assert "plots are left out" in err
    assert out.splitlines()[1].split() == ["product", "one", "900", "µs", "1.25"]
    kept = json.loads(Path("build/bench/figures.json").read_text())
    assert kept["figures"][0]["ratio"] == 1.25
    assert kept["machine"] == msgspec.to_builtins(here())
    assert kept["scale"] == 1.0
    assert Path("build/bench/figures.md").stat().st_mode & 0o044


def test_a_section_that_fails_is_named_with_its_reason_and_the_next_has_its_turn(run) -> None:
    code, out, err = run(chain="raise ZeroDivisionError('by nothing')")
    assert code == 1
    assert "chain was not measured: ZeroDivisionError: by nothing (fake_chain.py, line 7)" in err
    assert "cpu" in out
    assert "chain: ZeroDivisionError" in Path("build/bench/figures.md").read_text()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return []", "it measured nothing"),
        (GOOD.replace("900.0", "float('nan')"), "not all numbers"),
        (GOOD.replace("1.25", "float('inf')"), "not all numbers"),
        ("return 2 * [Figure(section='s', name='n', value=1, unit='s')]", "the same name"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_figures_that_cannot_be_used_are_a_failure(run, body, words) -> None:
    code, _, err = run(chain=body)
    assert code == 1
    assert words in err


def test_when_nothing_was_measured_the_results_of_an_earlier_run_stay(run) -> None:
    assert run()[0] == 0
    before = Path("build/bench/figures.json").read_bytes()
    code, _, err = run("--only", "chain", chain="raise OSError(28, 'No space left on device')")
    assert code == 1
    assert "No space left" in err
    assert "wrote" not in err
    assert Path("build/bench/figures.json").read_bytes() == before


def test_only_some_sections_run_each_once_and_in_their_order(run) -> None:
    _, out, _ = run("--only", "idle, chain,idle")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["product", "idle"]
    _, out, _ = run("--only", "idle")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["idle"]


def test_json_is_one_object_and_nothing_else(run) -> None:
    code, out, err = run("--json", "--compare", "x", chain=SLOW)
    assert (code, out) == (4, "")
    assert json.loads(err).keys() == {"error", "mend"}
    code, out, err = run("--json", "--compare", baseline(figure(ratio=1.25)), chain=SLOW)
    assert (code, err) == (1, "")
    told = json.loads(out)
    assert told.keys() == {"figures", "failures", "written", "comparison"}
    assert told["comparison"][0]["loss"] == pytest.approx(0.6)
    assert told["written"][0] == "build/bench/figures.json"


def test_a_loss_of_more_than_a_quarter_fails_and_a_table_says_how_much(run) -> None:
    before = baseline(figure(ratio=1.25), figure("gone", ratio=1.0), scale=0.5)
    code, out, err = run("--compare", before, chain=SLOW)
    assert code == 1
    assert ["product", "one", "1.25", "2.00", "+60%", "worse"] in map(str.split, out.splitlines())
    assert ["product", "gone", "1.00", "missing"] in map(str.split, out.splitlines())
    assert "2 of 2 ratios are worse" in err
    assert "scale 0.5, this one 1" in err
    assert "make bench" in err
    assert run("--compare", baseline(figure(ratio=1.9)), chain=SLOW)[0] == 0


def test_figures_of_another_machine_are_refused_before_anything_is_measured(run) -> None:
    before = baseline(figure(ratio=1.0), machine=MACHINE)
    code, out, err = run("--compare", before, chain="raise SystemExit(99)")
    assert (code, out) == (2, "")
    assert "cores: 2 and" in err or "processor: a processor and" in err
    assert "make bench" in err
    assert not Path("build/bench").exists()


def test_a_failed_section_fails_the_comparison_whatever_the_others_find(run) -> None:
    before = baseline(figure("cpu", section="idle"))
    code, out, err = run("--compare", before, chain="return []")
    assert code == 1
    assert "there are no ratios to compare" in out
    assert "chain was not measured" in err


def test_a_run_does_not_overwrite_what_it_is_compared_with(run) -> None:
    kept = Path("build/bench/figures.json")
    kept.parent.mkdir(parents=True)
    Path(baseline(figure(ratio=1.0))).rename(kept)
    before = kept.read_bytes()
    code, _, err = run("--compare", "build/bench/../bench/figures.json")
    assert code == 4
    assert "overwritten" in err
    assert kept.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--only", "chian"], "no section 'chian'"),
        (["--only", ""], "no section ''"),
        (["--only", "chain,,idle"], "no section ''"),
        (["--scale", "0"], "from 0.001 to 10"),
        (["--scale", "nan"], "from 0.001 to 10"),
        (["--scale", "1e300"], "from 0.001 to 10"),
        (["--scale", "much"], "from 0.001 to 10"),
        (["--out", ""], "is empty"),
        (["--out", "a file"], "cannot be written"),
        (["--out", "a file/below"], "cannot be written"),
        (["--out", "/dev/null"], "cannot be written"),
        (["--compare", ""], "folder"),
        (["--compare", "gone"], "No such file"),
        (["--compare", "a file"], "holds no figures"),
        (["--compare", "n" * 300], "cannot be read"),
        (["--compare", "/dev/zero"], "no regular file"),
        (["surplus"], "unexpected"),
    ],
)
def test_ugly_input_is_refused_before_anything_is_measured(run, args, words) -> None:
    Path("a file").write_text("text")
    code, out, err = run(*args, chain="raise SystemExit(99)")
    assert (code, out) == (4, "")
    assert words in err
    assert [path.name for path in Path().iterdir()] == ["a file"]


def test_a_folder_that_may_not_be_written_is_refused(run, monkeypatch) -> None:
    Path("locked").mkdir()

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bench.cost.results.tempfile.TemporaryFile", denied)
    code, _, err = run("--out", "locked", chain="raise SystemExit(99)")
    assert code == 4
    assert "cannot be written to locked: Permission denied" in err
