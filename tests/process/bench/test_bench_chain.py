"""The benchmark of the chain, shortened: real processes, and none left over."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from place import until

from bench.cost import chain
from bench.cost.floor import floor


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_the_floor_answers_each_question_in_every_way_it_is_asked(tmp_path: Path) -> None:
    before = children()
    with floor(tmp_path) as asker:
        assert asker.ask(["one?"]) == ["one?"]
        questions = [f"question {number}, über alles?" for number in range(600)]
        assert asker.ask(questions) == questions
        assert asker.ask(questions, together=True) == questions
        assert len(children()) == len(before) + 2
    assert children() == before


def test_a_floor_that_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyboardInterrupt), floor(tmp_path):
        raise KeyboardInterrupt
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("role", ["poller", "worker"])
def test_a_floor_that_has_lost_a_process_says_so(tmp_path: Path, role: str) -> None:
    with pytest.raises(RuntimeError, match="has ended"), floor(tmp_path) as asker:
        [victim] = [each for each in children() if each.cmdline()[-2:] == [role, str(tmp_path)]]
        victim.kill()
        asker.ask(["anybody there?"])


def test_the_floor_ends_when_its_asker_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.cost.floor import floor\n"
        "with floor(Path(sys.argv[1])) as asker:\n"
        "    print(*asker.ask(['?']), flush=True), time.sleep(60)"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert asker.stdout and asker.stdout.readline() == "?\n"
    chain = psutil.Process(asker.pid).children()
    assert len(chain) == 2
    asker.kill()
    asker.communicate()
    until(lambda: not any(each.is_running() for each in chain))


@pytest.mark.long
def test_the_chain_is_measured_beside_its_floor(tmp_path: Path) -> None:
    before = children()
    said: list[str] = []
    figures = {each.name: each for each in chain.measure(0.01, tmp_path, said.append)}
    assert figures["one outstanding"].floor == "floor, one outstanding"
    assert figures["one outstanding"].p99_target == 2.0
    assert [name for name, each in figures.items() if each.target] == [
        "one outstanding",
        "after 10 s idle",
        "64 outstanding",
        "1,000 one by one",
        "1,000 one by one in 1 conversation",
        "1,000 one by one in 20 conversations",
        "1,000 one by one in 1,000 conversations",
    ]
    assert all(each.value > 0 for each in figures.values())
    assert all(each.floor in figures for each in figures.values() if each.ratio)
    assert "one outstanding: product, round 1 of 1" in said
    assert children() == before
