"""Real processes that talk, started from a page: the same environment as `torchrun`'s.

A run ends: with the results, or with an error that names the rank. What the ranks
compute is the caller's.
"""

import faulthandler
import multiprocessing
import os
import pickle
import re
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist

from lib import checks

GRACE = 2.0  # seconds in which the others of a failed rank may say what they saw
# Files whose lines are not the reader's.
FOREIGN = r"site-packages|lib/python\d|\blib.ranks\.py$|^<(string|frozen)"
# Imported once, by the process that all ranks are forked from.
PRELOAD = [
    "cloudpickle",
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
    "torch.nn.parallel",
    "lib.ranks",
]


class RankError(RuntimeError):
    """A rank failed. `rank` is the first that did, from 0; None: the time was up."""

    def __init__(self, message: str, rank: int | None = None):
        super().__init__(message)
        self.rank = rank


def run(job: Callable[..., Any], ranks: int, *args: Any, seconds: float = 60) -> list:
    """Call `job(*args)` in so many processes at once, and return what each gave.

    In `job`, `torch.distributed` is set up on gloo: `dist.get_rank()` and the
    collectives work, as in a script under `torchrun`. A rank has one thread. Functions
    of a notebook may be sent, with what they use. What is returned are tensors,
    numbers and text, in lists, tuples and dicts. What ranks print is printed when all
    are done, behind the rank's number.

    Args:
        ranks: how many processes.
        seconds: the time limit. No rank outlives it, even if this process is killed.

    The port is one that the system gave, so that two runs never meet.

    Raises:
        ValueError: `ranks` or `seconds` is not a positive number.
        RankError: a rank raised, died or was not done in time; the others are stopped.
    """
    checks.whole("ranks", ranks)
    if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ValueError(f"seconds: got {seconds!r}, wants a number above 0")
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in methods else "spawn"
    )
    if "forkserver" in methods:
        context.set_forkserver_preload(PRELOAD)
    payload = cloudpickle.dumps((job, args))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        facts = ranks, store.port, folder, float(seconds), payload
        processes = [
            context.Process(target=_rank, args=(rank, *facts), daemon=True)
            for rank in range(ranks)
        ]
        try:
            for process in processes:
                process.start()
            _wait(processes, seconds + GRACE)
            stopped = _stop(processes)
        finally:
            _stop(processes)
        files = [Path(folder) / str(rank) for rank in range(ranks)]
        codes = [process.exitcode for process in processes]
        if error := _failure(files, codes, stopped, seconds):
            raise error
        for rank, file in enumerate(files):
            for line in file.with_suffix(".out").read_text("utf8").splitlines():
                print(f"rank {rank}: {line}")
        return [torch.load(f.with_suffix(".pt"), weights_only=True) for f in files]


# The ranks' side


def _rank(
    rank: int, ranks: int, port: int, folder: str, seconds: float, payload: bytes
):
    """Life of one process: it leaves `<rank>.pt`, or `<rank>.error`, or neither."""
    file = Path(folder) / str(rank)
    with (
        open(file.with_suffix(".out"), "w", encoding="utf8") as out,
        open(file.with_suffix(".err"), "w", encoding="utf8") as err,
        open(file.with_suffix(".where"), "w", encoding="utf8") as where,
    ):
        faulthandler.dump_traceback_later(seconds, exit=True, file=where)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = out, err
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the page holds the store
        loops = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        if loops:  # a host's own name may lead nowhere
            os.environ["GLOO_SOCKET_IFNAME"] = loops[0]
        torch.set_num_threads(1)
        try:
            dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))
            job, args = pickle.loads(payload)
            result = job(*args)
            dist.barrier()  # nobody hangs up while another still listens
            partial = file.with_suffix(".tmp")
            torch.save(result, partial)
            partial.replace(file.with_suffix(".pt"))
            dist.destroy_process_group()
        except BaseException as error:
            said = "".join(traceback.format_exception_only(error)).strip()
            place = _place(traceback.extract_tb(error.__traceback__))
            text = f"{time.time()}\n{place}\n{said}"
            file.with_suffix(".error").write_text(text, "utf8")
            out.flush()
            os._exit(1)
        faulthandler.cancel_dump_traceback_later()


def _place(frames: list) -> str:
    """The deepest line that is the reader's: not of a package, not of this file."""
    own = [f for f in frames if not re.search(FOREIGN, f.filename)]
    return f"line {own[-1].lineno} of {own[-1].name}" if own else ""


# The page's side


def _wait(processes: list, seconds: float) -> None:
    """Until all have ended, or one has failed and `GRACE` is over, or time is up."""
    end = time.monotonic() + seconds
    failed = False
    while (left := end - time.monotonic()) > 0:
        going = [p.sentinel for p in processes if p.exitcode is None]
        if not going:
            return
        if not failed and any(p.exitcode for p in processes):
            failed, end = True, min(end, time.monotonic() + GRACE)
        else:
            wait(going, left)


def _stop(processes: list) -> list[bool]:
    """End those that still go. Which were they?"""
    going = [p.pid is not None and p.exitcode is None for p in processes]
    for process, goes in zip(processes, going, strict=True):
        if goes:
            process.kill()
            process.join()
    return going


def _failure(files, codes, stopped, seconds) -> RankError | None:
    """What to raise: for a rank that died; else for what came first, error or limit."""
    errors, late, places = {}, {}, {}
    for rank, (file, code) in enumerate(zip(files, codes, strict=True)):
        error, where = file.with_suffix(".error"), file.with_suffix(".where")
        if error.exists():
            at, places[rank], said = error.read_text("utf8").split("\n", 2)
            errors[rank] = float(at), said
        elif where.exists() and where.stat().st_size:
            late[rank] = where.stat().st_mtime
            places[rank] = _stands(where.read_text("utf8"))
        elif code and not stopped[rank]:
            return RankError(f"rank {rank} died ({_how(code)}){_last(file)}", rank)
    first = min(errors, key=lambda rank: errors[rank][0], default=None)
    ended = min(late.values(), default=float("inf"))
    if first is not None and errors[first][0] < ended:
        place = f" in {places[first]}" if places[first] else ""
        return RankError(f"rank {first}{place}: {errors[first][1]}", first)
    left = {r: "" for r, still in enumerate(stopped) if still} | places
    if left:
        told = [f"rank {r}" + f" in {left[r]}" * bool(left[r]) for r in sorted(left)]
        return RankError(f"not done after {seconds:g} s: {', '.join(told)}")
    return None


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def _last(file: Path) -> str:
    """The last line that a rank wrote to its standard error."""
    err = file.with_suffix(".err")
    lines = err.read_text("utf8").strip().splitlines() if err.exists() else []
    return f"; its last words: {lines[-1]}" if lines else ""


def _stands(dump: str) -> str:
    """From faulthandler's lines, the deepest that is the reader's."""
    frames = re.findall(r'File "(.*)", line (\d+) in (\S+)', dump)
    own = [(line, name) for file, line, name in frames if not re.search(FOREIGN, file)]
    return f"line {own[0][0]} of {own[0][1]}" if own else ""
