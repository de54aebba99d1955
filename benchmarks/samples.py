"""Raw samples of one measurement and their file: written first, everything else is computed from them.

The file is an npz (a zip of numpy arrays, no pickle) with one more member, `header.json`: which run, where, on what. One
entry of the arrays is one request; times are nanoseconds after the start of the measurement.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.statistics import Observed, Summary, summarise
from runtime.errors import WrongUseError

SCHEMA_VERSION = 1
HEADER_MEMBER = "header.json"
OK = "ok"

Nanoseconds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """One entry a request, in the order of planned send times."""

    planned_ns: Nanoseconds
    """When it was due; in a closed loop when it was sent."""
    sent_ns: Nanoseconds
    done_ns: Nanoseconds
    """When its answer was there, or it was known to have failed."""
    rows: Nanoseconds
    status: npt.NDArray[np.int64]
    """Index into the header's `statuses`: "ok" or the error's code, such as "503 UNAVAILABLE"."""
    origin: npt.NDArray[np.int64]
    """Index into the header's `origins`: who served it and on which backend; -1 where nobody answered."""
    queue_ns: Nanoseconds | None = None
    """In the server's queue, as its reply says; -1 where it does not, None where none does. So the next two."""
    batch_ns: Nanoseconds | None = None
    """Joining requests into a batch and taking its outputs apart."""
    execute_ns: Nanoseconds | None = None
    """The model's run."""

    def __len__(self) -> int:
        return len(self.planned_ns)

    @property
    def latency_ms(self) -> npt.NDArray[np.float64]:
        """From the planned send time: a request that had to wait for its turn waited as well."""
        return (self.done_ns - self.planned_ns) / 1e6

    @property
    def service_ms(self) -> npt.NDArray[np.float64]:
        """From the actual send time: what a closed-loop tool would call latency."""
        return (self.done_ns - self.sent_ns) / 1e6

    def free_ns(self, in_flight: int) -> Nanoseconds:
        """From when on each request could be sent with at most `in_flight` under way: one could end before it went."""
        order = np.argsort(self.sent_ns, kind="stable")
        free = np.full(len(self), np.iinfo(np.int64).min)
        free[order[in_flight:]] = np.sort(self.done_ns)[: max(len(self) - in_flight, 0)]
        return free

    def lag_ms(self, in_flight: int) -> npt.NDArray[np.float64]:
        """How late the generator itself was: sent after the request was due and a connection was free."""
        return np.maximum(self.sent_ns - np.maximum(self.planned_ns, self.free_ns(in_flight)), 0) / 1e6

    def queued_ms(self, in_flight: int) -> npt.NDArray[np.float64]:
        """How long requests that were due waited because every connection was in use."""
        free = np.maximum(self.free_ns(in_flight), self.planned_ns)
        return (free - self.planned_ns) / 1e6

    @property
    def duration_s(self) -> float:
        """From the first planned send to the last answer."""
        return float(self.done_ns.max() - self.planned_ns.min()) / 1e9 if len(self) else 0.0


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples and what is known of how they came about (JSON; see `measure.header_of` for the keys)."""

    header: Mapping[str, Any]
    samples: Samples

    @property
    def is_valid(self) -> bool:
        """Whether the generator did what the scenario asked for."""
        return self.header["invalid_reason"] is None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What is compared with what: model, target, backend asked for, scenario."""
        setting = self.header["setting"]
        return setting["model"], setting["target"], setting["backend"], self.header["scenario_text"]

    @property
    def is_ok(self) -> npt.NDArray[np.bool_]:
        """Which requests were answered."""
        ok: npt.NDArray[np.bool_] = self.samples.status == self.header["statuses"].index(OK)
        return ok

    @property
    def cut_short(self) -> str | None:
        """Why it ended before its scenario did, as in "was stopped by a person"; None of a whole one."""
        scenario = self.header["scenario"]
        if self.header["was_stopped"]:
            return "was stopped by a person"
        if self.header["has_fallen_behind"]:
            return f"was ended when the target was {scenario['give_up_s']:g} s behind"
        if scenario.get("bound_ms") is not None:  # which recordings of earlier releases have not
            within = int((self.samples.latency_ms[self.is_ok] <= scenario["bound_ms"]).sum())
            if len(self.samples) - within > scenario["most_over"]:
                return f"was ended when too many requests took longer than {scenario['bound_ms']:g} ms"
        return None

    def summary(self, slo_ms: float | None = None) -> Summary:
        """The figures of these samples."""
        statuses = self.header["statuses"]
        counts = np.bincount(self.samples.status, minlength=len(statuses)).tolist()
        observed = Observed(
            latency_ms=self.samples.latency_ms,
            is_ok=self.is_ok,
            rows=self.samples.rows,
            duration_s=self.samples.duration_s,
            offered_qps=self.header["offered_qps"],
            errors=[(name, count) for name, count in zip(statuses, counts, strict=True) if count and name != OK],
        )
        return summarise(observed, slo_ms)

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        buffer = io.BytesIO()
        header = {"schema_version": SCHEMA_VERSION, **self.header}
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(HEADER_MEMBER, json.dumps(header, indent=2, ensure_ascii=False))
            for name, values in columns_of(self.samples).items():
                content = io.BytesIO()
                np.lib.format.write_array(content, values, allow_pickle=False)
                archive.writestr(f"{name}.npy", content.getvalue())
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)


def columns_of(samples: Samples) -> dict[str, Nanoseconds]:
    """The arrays by name, as they lie in the file; those that are not known are not there."""
    found = {field.name: getattr(samples, field.name) for field in fields(Samples)}
    return {name: values for name, values in found.items() if values is not None}


def load(path: Path) -> Recording:
    """A recording that `Recording.save` wrote; `WrongUseError` when the file is something else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(archive[HEADER_MEMBER])
            names = [f.name for f in fields(Samples) if f.default is MISSING or f.name in archive]
            samples = Samples(**{name: np.asarray(archive[name]) for name in names})
    except OSError as error:
        raise WrongUseError(f"recording {path} cannot be read: {error.strerror or error}; check the path") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:  # numpy's text tells how to load pickles
        raise WrongUseError(
            f"{path} is no recording of `edgeward bench`; name a folder that `edgeward bench run` wrote, or take that file out"
        ) from error
    if header.get("schema_version") != SCHEMA_VERSION:
        raise WrongUseError(
            f"{path} has schema version {header.get('schema_version')!r}; this release reads {SCHEMA_VERSION}: measure again"
        )
    return Recording(header, samples)


def load_runs(folder: Path) -> list[Recording]:
    """Every recording of a results folder, or of the results folders inside it: several runs of the same."""
    inside = [] if any(folder.glob("*.npz")) else sorted({file.parent for file in folder.glob("*/*.npz")})
    return [recording for run in inside or [folder] for recording in load_folder(run)]


def load_folder(folder: Path) -> list[Recording]:
    """Every recording of a results folder, in the order measured; `WrongUseError` when there is none."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise WrongUseError(
            f"{folder} holds no recordings (*.npz); expected one in which `edgeward bench run` measured something"
        )
    return [load(file) for file in files]
