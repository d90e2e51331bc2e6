"""lib.ranks: processes that talk, and errors that name the rank; nothing hangs."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lib import ranks, training

ROOT = Path(__file__).parent.parent


def total(x):
    here = torch.tensor([x + dist.get_rank()])
    dist.all_reduce(here)
    print("I have", here.item())
    return {"sum": here, "rank": dist.get_rank(), "threads": torch.get_num_threads()}


def faulty(how, who):
    if dist.get_rank() == who:
        if how == "raises":
            raise KeyError("colour")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "leaves":
            os._exit(3)
        time.sleep(120)
    dist.barrier()


def test_ranks_talk_and_give_their_results_in_order(capsys):
    found = ranks.run(total, 4, 1.5)
    assert [f["rank"] for f in found] == [0, 1, 2, 3]
    assert all(f["sum"].item() == 12 and f["threads"] == 1 for f in found)
    assert capsys.readouterr().out == "".join(
        f"rank {r}: I have 12.0\n" for r in range(4)
    )


def test_functions_without_a_module_are_sent():
    scope = {"dist": dist, "factor": 3}
    exec("def own(x):\n    return factor * x + dist.get_rank()", scope)
    scope["own"].__module__ = "__main__"
    assert ranks.run(scope["own"], 2, 2) == [6, 7]


def environment():
    return [*training.processes(), dist.get_backend()]


def test_the_environment_is_that_of_torchrun():
    assert ranks.run(environment, 2) == [[0, 2, "gloo"], [1, 2, "gloo"]]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            "raises",
            r"rank 1 in line \d+ of faulty: KeyError: 'colour'",
        ),
        ("killed", r"rank 1 died \(killed by SIGKILL\)"),
        ("leaves", r"rank 1 died \(status 3\)"),
    ],
)
def test_the_rank_that_failed_is_named(how, told):
    began = time.monotonic()
    with pytest.raises(ranks.RankError, match=told) as raised:
        ranks.run(faulty, 3, how, 1, seconds=60)
    assert raised.value.rank == 1
    assert time.monotonic() - began < 40  # nobody waited for the limit


def test_a_hung_rank_ends_with_the_limit_and_its_line_is_named():
    began = time.monotonic()
    with pytest.raises(ranks.RankError, match="not done after 3 s") as raised:
        ranks.run(faulty, 2, "sleeps", 0, seconds=3)
    assert re.search(r"rank 0 in line \d+ of faulty, rank 1 in line", str(raised.value))
    assert raised.value.rank is None
    assert time.monotonic() - began < 40


def test_after_a_failure_the_next_run_works():
    with pytest.raises(ranks.RankError):
        ranks.run(faulty, 2, "killed", 0, seconds=60)
    assert ranks.run(total, 2, 0.0)[0]["sum"].item() == 1


SCRIPT = """
import os, time
import torch.distributed as dist
from lib import ranks

def wait(file):
    with open(f"{file}.{dist.get_rank()}", "w") as out:
        out.write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    import sys
    ranks.run(wait, 2, sys.argv[1], seconds=5)
"""


def test_no_rank_outlives_its_limit_even_if_the_page_is_killed(tmp_path):
    script = tmp_path / "page.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    page = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "pid")], env=environment
    )
    files = [tmp_path / f"pid.{rank}" for rank in range(2)]
    end = time.monotonic() + 60
    while (
        not all(f.exists() and f.read_text() for f in files) and time.monotonic() < end
    ):
        time.sleep(0.1)
    page.kill()
    page.wait()
    pids = [int(f.read_text()) for f in files]
    end = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("number", "seconds", "told"),
    [
        (0, 5, "ranks: got 0"),
        (True, 5, "ranks"),
        (2, 0, "seconds: got 0"),
        (2, "5", "seconds"),
    ],
)
def test_bad_input(number, seconds, told):
    with pytest.raises(ValueError, match=told):
        ranks.run(total, number, 0, seconds=seconds)
