"""`edgeward bench`: run, compare, calibrate and report on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.arrivals import Arrivals
from benchmarks.bar import bar
from benchmarks.options import (
    AsJson,
    CaFile,
    Duration,
    InFlight,
    KeyFile,
    Models,
    Output,
    Rate,
    Rates,
    Requests,
    Rows,
    SearchedRows,
    Seed,
    SloText,
    Threshold,
    Timeout,
    WarmUp,
    seconds,
)
from benchmarks.promise import Slo
from benchmarks.scenarios import (
    DEFAULT_DURATION_S,
    DEFAULT_TIMEOUT_S,
    DEFAULT_WARM_UP_S,
    Kind,
    Wishes,
    check_used,
    plan,
)
from benchmarks.settings import ADDRESS_OF, ALL, AUTO, INPROC, Access, Setting, TargetName, check_targets
from benchmarks.significance import LEAST_BLOCKS
from runtime.errors import WrongUseError

if TYPE_CHECKING:
    from benchmarks.comparison import Compared
    from benchmarks.run import Cell
    from benchmarks.scenarios import Scenario

SCENARIOS = ", ".join(Kind)

app = typer.Typer(
    help="How fast a model answers: latency and QPS on every target, raw samples kept.", no_args_is_help=True
)

# 128 + SIGINT, as shells count.
EXIT_INTERRUPTED = 130


@app.command(epilog="Example: edgeward bench run --target inproc,grpc://127.0.0.1:8001 --scenario single,offline")
def run(
    model: Models = "digits",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="inproc, agent, gateway, grpc://host:port, http://..., grpcs://..., https://... or LABEL=...; commas between.",
        ),
    ] = "inproc",
    scenario: Annotated[str | None, typer.Option("--scenario", help=f"{SCENARIOS}; commas (single,offline).")] = None,
    backend: Annotated[
        str, typer.Option("--backend", help="In process: auto (chosen), all, BACKEND or VARIANT@BACKEND/THREADS.")
    ] = AUTO,
    duration: Duration = DEFAULT_DURATION_S,
    requests: Requests = None,
    rows: SearchedRows = None,
    in_flight: InFlight = None,
    arrivals: Rates = None,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    seed: Seed = 1,
    slo: SloText = None,
    find_max: Annotated[
        bool,
        typer.Option(
            "--find-max", help="Search the highest open-loop rate that keeps --slo; scenarios are not measured."
        ),
    ] = False,
    api_key_file: KeyFile = None,
    ca_file: CaFile = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Measures every model on every target in every scenario, and prints one table; exit code 1 if anything is INVALID.

    Raw samples are saved below EDGEWARD_HOME/benchmarks unless --output says where. Ctrl-C keeps what was measured.
    """
    from benchmarks.run import default_folder, matrix, settings, to_dict
    from benchmarks.run import run as run_cells
    from benchmarks.shown import show_failures, show_figures
    from runtime.cli.console import people, standard

    loads = [Arrivals.parse(text) for text in arrivals or ()]
    wishes = Wishes(duration, requests, rows, in_flight, loads[0] if loads else None, warm_up, timeout, seed)
    promise = None if slo is None else Slo.parse(slo)
    slo_ms = None if promise is None else promise.bound_ms
    targets, scenarios = _words(target), _words(scenario or "single,offline")
    access = _access(targets, api_key_file, ca_file)
    if find_max:
        promise = _searched(promise, loads, {"--scenario": scenario, "--requests": requests})
    else:
        check_used(scenarios, wishes)
    if backend == ALL and any(TargetName.parse(where).is_inproc for where in targets):
        _say_left_out(_words(model))
    if find_max and promise is not None:
        every = [s for name in _words(model) for where in targets for s in settings(name, where, backend)]
        _say_missing(every, access)
        _find_max(every, promise, wishes, output or default_folder(), access, as_json)
        return
    cells = matrix(_words(model), targets, scenarios, backend, wishes, loads)
    _say_missing([cell.setting for cell in cells], access)
    with bar(sum(cell.scenario.duration_s + cell.scenario.warm_up_s for cell in cells)) as tell:

        def progress(cell: Cell, number: int, count: int, share: float) -> None:
            tell(str(cell), (number + share) / count)

        result = run_cells(cells, output or default_folder(), progress, access, slo_ms)
    if as_json:
        print(json.dumps(to_dict(result), indent=2, ensure_ascii=False))
    else:
        show_figures(result.recordings, slo_ms)
        show_failures(result.failed)
        if result.recordings:
            standard().print(f"raw samples: {result.folder}", markup=False, soft_wrap=True)
    if result.was_stopped:
        people().print("stopped; what was measured is kept", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not result.is_valid:
        raise typer.Exit(1)


@app.command(epilog="Example: edgeward bench compare inproc@onnxruntime-cpu inproc@litert-cpu --scenario single")
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A results folder, or one of such folders, or TARGET or TARGET@BACKEND.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The same for B, which is judged against A.")],
    model: Annotated[str, typer.Option("--model", help="For two targets: the model.")] = "digits",
    scenario: Annotated[str, typer.Option("--scenario", help="For two targets: which scenario.")] = "single",
    rounds: Annotated[
        int,
        typer.Option("--rounds", min=2, help=f"For two targets: rounds of A/B/B/A; verdicts take {LEAST_BLOCKS}."),
    ] = LEAST_BLOCKS,
    duration: Duration = 1.0,
    requests: Requests = None,
    rows: Rows = None,
    in_flight: InFlight = None,
    arrivals: Rate = None,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    seed: Seed = 1,
    threshold: Threshold = 0.05,
    api_key_file: KeyFile = None,
    ca_file: CaFile = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Says whether B is faster, slower, equivalent, or that it cannot be told.

    Two targets are measured now, A/B/B/A in fresh processes. Two folders of earlier runs are compared cell by cell; one run a
    side has no verdict, since runs differ by themselves.
    """
    from benchmarks.compare import compare_folders
    from benchmarks.samples import load_runs
    from benchmarks.shown import show_compared

    if Path(a).is_dir() and Path(b).is_dir():
        compared = compare_folders(load_runs(Path(a)), load_runs(Path(b)), threshold)
        show_compared(compared, 0, None, as_json=as_json)
        _end(compared)
        return
    wishes = Wishes(duration, requests, rows, in_flight, _arrivals(arrivals), warm_up, timeout, seed)
    pair = _setting(model, a), _setting(model, b)
    access = _access([setting.target for setting in pair], api_key_file, ca_file)
    _compare_now(pair, _planned(scenario, wishes), rounds, threshold, output, access, as_json)


@app.command(epilog="Example: edgeward bench calibrate inproc")
def calibrate(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="TARGET or TARGET@BACKEND.")] = "inproc",
    model: Annotated[str, typer.Option("--model", help="The model.")] = "digits",
    scenario: Annotated[str, typer.Option("--scenario", help="Which scenario.")] = "single",
    rounds: Annotated[
        int, typer.Option("--rounds", min=2, help=f"Rounds of A/A/A/A; an answer takes {LEAST_BLOCKS}.")
    ] = LEAST_BLOCKS,
    duration: Duration = 1.0,
    requests: Requests = None,
    rows: Rows = None,
    in_flight: InFlight = None,
    arrivals: Rate = None,
    warm_up: WarmUp = DEFAULT_WARM_UP_S,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    seed: Seed = 1,
    threshold: Threshold = 0.05,
    api_key_file: KeyFile = None,
    ca_file: CaFile = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Compares a target with itself: the smallest change that this machine can show."""
    wishes = Wishes(duration, requests, rows, in_flight, _arrivals(arrivals), warm_up, timeout, seed)
    setting = _setting(model, target)
    access = _access([setting.target], api_key_file, ca_file)
    pair = setting, setting
    _compare_now(pair, _planned(scenario, wishes), rounds, threshold, output, access, as_json, has_floor=True)


@app.command(epilog="Example: edgeward bench loadgen --target grpc://127.0.0.1:8001 --scenario server --qps 200")
def loadgen(
    model: Models = "digits",
    target: Annotated[str, typer.Option("--target", help="As for run.")] = "inproc",
    scenario: Annotated[str, typer.Option("--scenario", help=f"{SCENARIOS}; commas.")] = ",".join(Kind),
    backend: Annotated[str, typer.Option("--backend", help="As for run.")] = AUTO,
    duration: Annotated[
        float, typer.Option("--duration", metavar="SECONDS", parser=seconds, help="LoadGen's min_duration.")
    ] = 10.0,
    min_queries: Annotated[int, typer.Option("--min-queries", help="LoadGen's min_query_count.")] = 100,
    qps: Annotated[float, typer.Option("--qps", help="Of server: LoadGen's target_qps.")] = 100.0,
    slo: Annotated[str, typer.Option("--slo", help="Of server: p99 is to be within it.")] = "50ms",
    accuracy: Annotated[bool, typer.Option(help="Also LoadGen's accuracy mode, where samples have labels.")] = True,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    api_key_file: KeyFile = None,
    ca_file: CaFile = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Measures with MLCommons LoadGen (extra `loadgen`), by its seeds and rules; exit code 1 if anything is INVALID.

    Its raw logs are kept. Whatever it says, it is not an MLPerf result.
    """
    from benchmarks.loadgen.cli import kinds_of, measure, show
    from benchmarks.loadgen.plan import Rules
    from benchmarks.run import default_folder, settings

    promise, kinds = Slo.parse(slo), kinds_of(_words(scenario))
    if promise.share != 0.99:
        raise WrongUseError(
            f"LoadGen's server scenario judges p99; got {promise}: give --slo p99<={promise.bound_ms:g}ms"
        )
    rules = Rules(duration, min_queries, qps, promise.bound_ms, timeout_s=timeout)
    targets = _words(target)
    access = _access(targets, api_key_file, ca_file)
    every = [s for name in _words(model) for where in targets for s in settings(name, where, backend)]
    _say_missing(every, access)
    with bar(len(every) * len(kinds) * duration) as tell:
        run = measure(every, kinds, rules, output or default_folder(), accuracy, tell, access)
    show(run, as_json)
    if run.was_stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if run.failed or not all(result.is_believable for result in run.results):
        raise typer.Exit(1)


@app.command(epilog="Example: edgeward bench report ./results")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder of `bench run`.")],
    slo: SloText = None,
    as_json: AsJson = False,
) -> None:
    """Prints the table of a run again, and writes report.html (one file, charts and raw data inside) and report.md into DIR.

    Of a run in which nothing was measured it says what failed, and writes nothing.
    """
    from benchmarks.report import to_html, to_markdown
    from benchmarks.run import recordings_of, report_of, to_dict
    from benchmarks.shown import show_failures, show_figures
    from runtime.cli.console import people, standard

    recordings = recordings_of(folder)
    result = report_of(recordings, folder, None if slo is None else Slo.parse(slo).bound_ms)
    if as_json:
        print(json.dumps(to_dict(result), indent=2, ensure_ascii=False))
    else:
        show_figures(recordings, result.slo_ms)
        show_failures(result.failed)
    if not recordings:
        people().print(f"{folder} holds no recordings: there are no figures, and no report is written", markup=False)
        return
    for name, form in (("report.html", to_html), ("report.md", to_markdown)):
        text = form(recordings, result.slo_ms, result.failed)
        (folder / name).write_text(text, encoding="utf-8")
        (people() if as_json else standard()).print(str(folder / name), markup=False, soft_wrap=True)


@app.command(epilog="Example: edgeward bench peers --peers mlserver,kserve --rounds 5")
def peers(
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Interleaved rounds; ratios are of their medians.")
    ] = 5,
    duration: Annotated[
        float, typer.Option("--duration", "--seconds", metavar="SECONDS", parser=seconds, help="Of one measurement.")
    ] = 3.0,
    names: Annotated[str | None, typer.Option("--peers", help="Only these, with commas between.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Where peers.json and peers.md go (below EDGEWARD_HOME)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Other people's servers beside ours: each in an environment of its own, one model, one load, one table of ratios.

    Ctrl-C keeps what was measured.
    """
    from benchmarks.peers.catalogue import PEERS
    from benchmarks.run import default_folder
    from benchmarks.serving.rounds import Plan
    from benchmarks.serving.run import compare as compare_servers
    from runtime.cli.console import people

    wanted = [peer.name for peer in PEERS] if names is None else _words(names)
    if unknown := sorted(set(wanted) - {peer.name for peer in PEERS}):
        raise WrongUseError(f"no peer {unknown[0]!r}; known: {', '.join(peer.name for peer in PEERS)}")
    chosen = [peer for peer in PEERS if peer.name in wanted]
    if duration <= 0:
        raise WrongUseError(f"--duration is {duration:g} s; expected more than 0")

    with bar(rounds * duration * len(chosen)) as tell:
        results, text = compare_servers(
            Plan(rounds, duration), tell, peers=chosen, folder=output or default_folder(), name="peers"
        )
    typer.echo(text.with_suffix(".json").read_text() if as_json else text.read_text(), nl=False)
    people().print(f"kept: {text}", markup=False, soft_wrap=True)
    if results.outcome.was_stopped:
        typer.echo("stopped; what was measured is kept", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _say_left_out(models: list[str]) -> None:
    """What "all" does not mean on this machine."""
    from benchmarks.inproc import left_out
    from runtime.cli.console import people

    for name in models:
        for sentence in left_out(name):
            people().print(f"not here: {name} on {sentence}", markup=False, soft_wrap=True)


def _say_missing(settings: Sequence[Setting], access: Access) -> None:
    """What will not be measured, before the time for the rest of it is spent; `WrongUseError` is raised."""
    from benchmarks.beforehand import missing
    from runtime.cli.console import people

    for sentence in missing(settings, access):
        people().print(f"will not be measured: {sentence}", markup=False, soft_wrap=True)


def _searched(promise: Slo | None, loads: Sequence[Arrivals], unused: Mapping[str, object]) -> Slo:
    """The promise of a search; `WrongUseError` without one, and for options that no search looks at."""
    if promise is None:
        raise WrongUseError("--find-max needs a promise to keep; add --slo 'p99<=50ms'")
    if len(loads) > 1:
        raise WrongUseError(
            f"--find-max begins at one rate, and chooses the others; --arrivals is given {len(loads)} times"
        )
    for flag, given in unused.items():
        if given is not None:
            raise WrongUseError(
                f"{flag} {given} is not looked at by --find-max, which chooses rates and how long to ask: leave {flag} out"
            )
    return promise


def _find_max(settings: list[Setting], slo: Slo, wishes: Wishes, folder: Path, access: Access, as_json: bool) -> None:
    """Searches, prints and ends like `run`: 1 where nothing was found or a search failed, 130 after Ctrl-C."""
    from benchmarks.find_max import find_all
    from benchmarks.shown import show_failures, show_searches
    from runtime.cli.console import people

    with bar(len(settings) * wishes.duration_s) as tell:
        done = find_all(settings, slo, wishes, folder, tell, access)
    if as_json:
        print(json.dumps(done.to_dict(), indent=2, ensure_ascii=False))
    else:
        show_searches(done, folder)
    show_failures(done.failed)
    if done.was_stopped:
        people().print("stopped; what was measured is kept", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED)
    if done.failed or any(search.found is None or search.found.qps is None for search in done.searches):
        raise typer.Exit(1)


def _compare_now(
    pair: tuple[Setting, Setting],
    scenario: Scenario,
    rounds: int,
    threshold: float,
    output: Path | None,
    access: Access,
    as_json: bool,
    *,
    has_floor: bool = False,
) -> None:
    """Measures both interleaved and prints the verdicts; with `has_floor` before them what a change must be to show."""
    from benchmarks.beforehand import check
    from benchmarks.compare import compare_settings
    from benchmarks.run import default_folder
    from benchmarks.shown import show_compared, show_floors

    for setting in dict.fromkeys(pair):
        check(setting, access)
    folder = output or default_folder()
    with bar(4 * rounds * (scenario.duration_s + scenario.warm_up_s)) as tell:
        compared = compare_settings(*pair, scenario, rounds, threshold, tell, folder, access)
    if has_floor and not as_json:
        show_floors(compared)
    show_compared(compared, rounds, folder, as_json=as_json)
    _end(compared)


def _end(compared: Compared) -> None:
    """Ends with 130 where a person stopped it, with 1 where an error did or nothing could be told."""
    if compared.was_stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if compared.failed is not None or not compared.comparisons:
        raise typer.Exit(1)


def _planned(name: str, wishes: Wishes) -> Scenario:
    """One scenario, of wishes that it looks at."""
    scenario = plan(name, wishes)
    check_used([name], wishes)
    return scenario


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise WrongUseError(f"{text!r} names nothing; give one or more, with commas between")
    return words


def _setting(model: str, text: str) -> Setting:
    if text not in (INPROC, *ADDRESS_OF) and Path(text).is_dir():
        raise WrongUseError(
            f"{text} is a folder of results, and what stands beside it is none; give two folders, or two targets"
        )
    target, _, backend = text.partition("@")
    return Setting(model, target, backend or AUTO)


def _arrivals(text: str | None) -> Arrivals | None:
    return None if text is None else Arrivals.parse(text)


def _access(targets: list[str], key_file: Path | None, ca_file: Path | None) -> Access:
    try:
        key = None if key_file is None else key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise WrongUseError(f"API key file {key_file} cannot be read: {error.strerror}; check the path") from error
    access = Access(key, ca_file)
    check_targets(targets, access)
    return access
