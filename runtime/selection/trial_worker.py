"""The process in which candidates run: a `LocalBench` that takes orders on standard input, one JSON object a line.

It ends when its standard input does, so it never outlives the process that started it. Engines may print what they like:
answers go out on a descriptor of their own, and standard output leads to standard error.
"""

from __future__ import annotations

import gc
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from typing import IO

from runtime.backends.base import Backend
from runtime.selection.bench import CandidateFailedError
from runtime.selection.local_bench import LocalBench, reason_of
from runtime.selection.trial_messages import REQUEST, Answer, Check, Start, Time, TryOut, bundle_of, candidate_of


def main() -> None:
    """Serves one bench until standard input ends; an exception is told on standard error."""
    try:
        _serve()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        # Not an orderly end: the interpreter would stumble over the thread that waits for input, and abort.
        os._exit(1)


def _serve() -> None:
    # Ctrl-C reaches the whole process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines = _read_in_background()
    first = REQUEST.validate_json(lines.get())
    if not isinstance(first, Start):
        raise TypeError(f"the first message is {first.do!r}; expected 'start'")
    bundle = bundle_of(first)
    backends = {backend.name: backend for backend in _backends(first.backend_source)}
    bench = LocalBench(bundle, first.seed, after_loading=_set_aside)
    _say(answers, Answer())
    while True:
        request = REQUEST.validate_json(lines.get())
        try:
            if isinstance(request, (TryOut, Check)):
                candidate = candidate_of(request.candidate, bundle, backends)
                standard = request.reference
                reference = None if standard is None else candidate_of(standard, bundle, backends)
                if isinstance(request, Check):
                    answer = Answer(guard=bench.check(candidate, reference, request.within_s))
                else:
                    answer = Answer(trial=bench.try_out(candidate, reference, request.rows, request.check_s))
            elif isinstance(request, Time):
                candidate = candidate_of(request.candidate, bundle, backends)
                answer = Answer(timed=bench.time(candidate, request.rows, request.duration_s))
            else:
                answer = Answer(failed="the worker was started twice")
        except (CandidateFailedError, LookupError) as error:
            answer = Answer(failed=reason_of(error))
        _say(answers, answer)


def _backends(source: str) -> tuple[Backend, ...]:
    module, _, name = source.partition(":")
    found: tuple[Backend, ...] = getattr(importlib.import_module(module), name)()
    return found


def _set_aside() -> None:
    """Keeps what an engine's library consists of out of later collections, one of which comes before every look at memory.

    With PyTorch loaded one takes some 0.2 s. This process is thrown away, so nothing is lost.
    """
    gc.collect()
    gc.freeze()


def _say(answers: IO[str], answer: Answer) -> None:
    answers.write(answer.model_dump_json(exclude_none=True) + "\n")
    answers.flush()


def _read_in_background() -> queue.SimpleQueue[bytes]:
    """The lines of standard input. At its end the process ends at once, also in the middle of a run."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="trial-orders", daemon=True).start()
    return lines
