"""A pass over the wanted models: checked before it serves, rolled back where it does not load, kept over restarts."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from edge_agent.home_lock import hold
from edge_agent.sync import download as module
from edge_agent.sync.check import Checked, Chooses
from edge_agent.sync.download import Source
from edge_agent.sync.interruption import Interruption
from edge_agent.sync.record import Offer, Trial
from edge_agent.sync.state import SyncFolder
from edge_agent.sync.syncer import Syncer, Wishes
from runtime.errors import (
    BundleError,
    CancelledError,
    ConflictError,
    MachineError,
    PeerUnreachableError,
    StorageError,
    WrongUseError,
)


class Gateway:
    """Offers by the version's number; the tar is that number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.versions: list[int] = []
        self.is_away = False
        self.breaks_off = False
        self.meanwhile: Callable[[], object] = list
        """What happens while a bundle is fetched."""
        monkeypatch.setattr(module, "fetch_index", self.index)
        monkeypatch.setattr(module, "download", self.download)
        monkeypatch.setattr(module, "tell_outcomes", self.take)
        self.outcomes: list[tuple[str, object, object]] = []

    def take(
        self, _: Source, interruption: Interruption, device: str, outcomes: Sequence[Mapping[str, object]]
    ) -> None:
        if self.is_away:
            raise PeerUnreachableError("away")
        self.outcomes += [(device, one["version"], one["outcome"]) for one in outcomes]

    def index(self, _: Source, interruption: Interruption, device: str, models: Sequence[str]) -> list[Offer]:
        assert (device, list(models)) == ("camera-7", ["m"])
        if self.is_away:
            raise PeerUnreachableError("away")
        return [offer(version) for version in self.versions]

    def download(
        self, _: Source, offer: Offer, part: Path, target: Path, max_bytes: int, interruption: Interruption
    ) -> None:
        if self.breaks_off:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text("the beginning")
            raise PeerUnreachableError("it broke off")
        self.meanwhile()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(str(offer.version))


class Served:
    def __init__(self) -> None:
        self.now: str | None = None
        self.breaks_on: set[str] = set()
        self.crashes_on: set[str] = set()
        self.loads: list[str | None] = []

    def digest(self, model: str) -> str | None:
        return None if self.now is None else offer(int(self.now)).digest

    def in_use(self) -> list[Path]:
        return []

    def switch(self, model: str, source: Path | None) -> None:
        version = None if source is None else source.read_text()
        self.loads.append(version)
        if version in self.crashes_on:
            raise KeyboardInterrupt  # nothing after it runs, as after a crash
        if version in self.breaks_on:
            raise BundleError("it does not load")
        self.now = version


def offer(version: int) -> Offer:
    digest = hashlib.sha256(str(version).encode()).hexdigest()
    return Offer("m", version, digest, digest, 1)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    return Gateway(monkeypatch)


def make(folder: Path, served: Served | None, bad: tuple[str, ...] = (), home: Path | None = None) -> Syncer:
    """`home`: of the agent whose records they are, where no agent syncs."""

    def check(tar: Path, model: str, chooses: Chooses, _: Interruption) -> Checked:
        return Checked(tar.read_text() not in bad, "as told")

    wishes = Wishes(Source("127.0.0.1:1"), ("m",), 1 << 20, Chooses("latency"), "camera-7")
    if home is None:
        return Syncer(SyncFolder(folder), wishes, served, check)
    return Syncer(SyncFolder(folder), wishes, served, check, writing=partial(hold, home))


def test_new_versions_serve_and_the_one_before_is_kept(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    syncer = make(tmp_path, served)
    for version in (1, 2, 3):
        gateway.versions = [version]
        told = syncer.sync()["models"]["m"]
        assert (served.now, told["version"], told["is_on_trial"]) == (str(version), version, True)
    assert told["previous"] == 2
    assert sorted(path.read_text() for path in (tmp_path / "bundles").iterdir()) == ["2", "3"]
    syncer.confirm()
    assert not syncer.describe()["models"]["m"]["is_on_trial"]
    assert syncer.sync()["models"]["m"]["version"] == 3
    assert served.loads == ["1", "2", "3"], "what is here is not loaded again"


def test_what_fails_its_check_never_serves_and_is_not_fetched_again(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    syncer = make(tmp_path, served, bad=("2",))
    gateway.versions = [1]
    syncer.sync()
    gateway.versions = [1, 2]
    for _ in range(2):
        assert syncer.sync()["models"]["m"]["note"] == "version 2 is not taken: as told"
    assert served.loads == ["1"]


def test_what_does_not_load_is_rolled_back_at_once(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    syncer = make(tmp_path, served)
    gateway.versions = [1]
    syncer.sync()
    served.breaks_on = {"2"}
    gateway.versions = [2]
    told = syncer.sync()["models"]["m"]
    assert (served.now, told["version"], told["note"]) == ("1", 1, "rolled back from version 2: it does not load")


def test_a_version_that_crashes_the_agent_twice_is_rolled_back(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    gateway.versions = [1]
    first = make(tmp_path, served)
    first.sync()
    first.confirm()
    gateway.versions = [2]
    served.crashes_on = {"2"}
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, served).sync()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, served).start()
    last = make(tmp_path, served)
    last.start()
    assert served.now == "1"
    assert "ended 2 times without saying goodbye" in last.describe()["models"]["m"]["note"]


def test_the_gateway_is_told_once_what_became_of_each_version(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    syncer = make(tmp_path, served, bad=("3",))
    gateway.versions = [1]
    syncer.sync()
    syncer.confirm()
    served.breaks_on = {"2"}
    gateway.versions = [2]
    syncer.sync()
    assert gateway.outcomes == [("camera-7", 1, "kept")]
    gateway.is_away, gateway.versions = True, [3]
    assert "away" in syncer.sync()["last_error"]
    gateway.is_away = False
    make(tmp_path, served, bad=("3",)).sync()  # after a restart
    syncer.sync()
    assert gateway.outcomes[1:] == [("camera-7", 2, "rolled_back"), ("camera-7", 3, "rejected")]
    syncer.sync()
    assert len(gateway.outcomes) == 3


def test_two_crashes_are_told_as_such(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    gateway.versions = [1]
    make(tmp_path, served).sync()
    served.crashes_on = {"1"}
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, served).start()
    last = make(tmp_path, served)
    last.start()
    last.sync()
    assert gateway.outcomes == [("camera-7", 1, "crashed")]


def test_what_was_synced_serves_after_a_restart(gateway: Gateway, tmp_path: Path) -> None:
    gateway.versions = [2]
    syncer = make(tmp_path, Served())
    syncer.sync()
    for _ in range(4):
        syncer.stop()
        served = Served()
        syncer = make(tmp_path, served)
        syncer.start()
        assert served.now == "2"


def test_a_disk_that_takes_nothing_keeps_what_is_proven_in_service(
    gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    syncer = make(tmp_path, Served())
    gateway.versions = [2]
    syncer.sync()
    syncer.confirm()
    syncer.stop()
    (tmp_path / "state.new").mkdir()  # where the next state would be written
    proven = Served()
    make(tmp_path, proven).start()
    assert proven.now == "2"
    assert "state.json cannot be written" in caplog.text

    (tmp_path / "state.new").rmdir()
    gateway.versions = [3]
    syncer = make(tmp_path, proven)
    syncer.sync()
    assert proven.now == "3"
    (tmp_path / "state.new").mkdir()
    after = Served()
    make(tmp_path, after).start()
    assert after.now == "2", "crashes of what is on trial could not be counted"


def test_a_version_whose_trial_could_not_begin_is_not_confirmed_and_begins_it_at_the_next_pass(
    gateway: Gateway, tmp_path: Path
) -> None:
    first = make(tmp_path, Served())
    gateway.versions = [2]
    first.sync()
    first.confirm()
    gateway.versions = [3]
    first.sync()  # and crashes: it does not say goodbye
    (tmp_path / "state.new").mkdir()
    served = Served()
    syncer = make(tmp_path, served)
    syncer.start()
    (tmp_path / "state.new").rmdir()
    before = SyncFolder(tmp_path).read().models["m"]
    told = syncer.describe()["models"]["m"]
    assert (served.now, told["version"], told["is_on_trial"]) == ("2", 2, False)
    assert told["note"] == "version 3 waits for the next pass that can be written down"
    syncer.confirm()
    syncer.stop()
    assert SyncFolder(tmp_path).read().models["m"] == before, "nothing was learnt about it; its crash still counts"
    served = Served()
    syncer = make(tmp_path, served)
    (tmp_path / "state.new").mkdir()
    syncer.start()
    (tmp_path / "state.new").rmdir()
    told = syncer.sync()["models"]["m"]
    assert (served.now, told["version"], told["is_on_trial"]) == ("3", 3, True)
    assert SyncFolder(tmp_path).read().models["m"].trial == Trial(1, True)
    assert gateway.outcomes == [("camera-7", 2, "kept")]
    syncer.confirm()
    syncer.sync()
    assert gateway.outcomes[1:] == [("camera-7", 3, "kept")]


def test_where_no_synced_version_is_proven_what_the_settings_name_is_left_alone(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.versions = [1]
    make(tmp_path, Served(), bad=("1",)).sync()  # a record without any version
    (tmp_path / "state.new").mkdir()
    served = Served()
    make(tmp_path, served).start()
    assert served.loads == []
    (tmp_path / "state.new").rmdir()
    gateway.versions = [2]
    make(tmp_path, Served()).sync()
    (tmp_path / "state.new").mkdir()
    make(tmp_path, served).start()
    assert served.loads == []


def test_a_start_after_which_the_disk_is_full_serves_and_does_not_confirm_what_did_not_load(
    gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(tmp_path, Served())
    for version in (1, 2):
        gateway.versions = [version]
        first.sync()

    class Filling(Served):
        def switch(self, model: str, source: Path | None) -> None:
            (tmp_path / "state.new").mkdir(exist_ok=True)
            super().switch(model, source)

    served = Filling()
    served.breaks_on = {"2"}
    syncer = make(tmp_path, served)
    syncer.start()
    assert served.now == "1"
    assert "state.json cannot be written" in caplog.text
    (tmp_path / "state.new").rmdir()
    syncer.confirm()
    assert syncer.describe()["models"]["m"]["version"] == 1
    assert SyncFolder(tmp_path).read().models["m"].untold == ()


def test_what_cannot_be_unloaded_goes_on_and_is_told(gateway: Gateway, tmp_path: Path) -> None:
    class Stubborn(Served):
        def switch(self, model: str, source: Path | None) -> None:
            if source is None:
                raise MachineError("what the settings name does not run here")
            super().switch(model, source)

    served = Stubborn()
    syncer = make(tmp_path, served)
    gateway.versions = [1]
    syncer.sync()
    served.breaks_on = {"1", "2"}
    gateway.versions = [2]
    told = syncer.sync()["models"]["m"]
    assert (served.now, told["version"]) == ("1", 1)


def test_without_an_agent_the_next_one_takes_the_switch(gateway: Gateway, tmp_path: Path) -> None:
    gateway.versions = [2]
    assert make(tmp_path, None).sync()["models"]["m"]["version"] == 2
    served = Served()
    make(tmp_path, served).start()
    assert served.now == "2"


def test_a_gateway_that_is_away_is_told_and_changes_nothing(gateway: Gateway, tmp_path: Path) -> None:
    served = Served()
    syncer = make(tmp_path, served)
    gateway.versions = [1]
    syncer.sync()
    gateway.is_away = True
    told = syncer.sync()
    assert (told["last_error"], told["models"]["m"]["version"]) == ("away", 1)
    gateway.is_away, gateway.versions = False, []
    assert "offers no bundle of it" in syncer.sync()["last_error"]


def test_the_beginning_of_a_download_stays_for_the_next_pass(gateway: Gateway, tmp_path: Path) -> None:
    syncer, part = make(tmp_path, Served()), SyncFolder(tmp_path).part(offer(1))
    gateway.versions, gateway.breaks_off = [1], True
    syncer.sync()
    assert part.exists()
    gateway.is_away = True
    syncer.sync()
    assert part.exists()
    gateway.versions, gateway.is_away, gateway.breaks_off = [2], False, False
    syncer.sync()
    assert not part.exists(), "nobody offers it any more"


def test_one_pass_at_a_time_whichever_process_makes_it(gateway: Gateway, tmp_path: Path) -> None:
    gateway.versions = [1]

    def sync_too() -> None:
        with pytest.raises(ConflictError, match="another process looks for new models: process "):
            make(tmp_path, None).sync()

    gateway.meanwhile = sync_too
    assert make(tmp_path, Served()).sync()["models"]["m"]["version"] == 1


def test_an_agent_that_starts_during_a_pass_of_another_process_keeps_its_records(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.versions, folder = [1], tmp_path / "sync"
    with ExitStack() as agent:
        gateway.meanwhile = lambda: agent.enter_context(hold(tmp_path))
        with pytest.raises(ConflictError, match="an agent runs on"):
            make(folder, None, home=tmp_path).sync()
        assert not SyncFolder(folder).exists()
    gateway.meanwhile = list
    assert make(folder, None, home=tmp_path).sync()["models"]["m"]["version"] == 1


def test_what_an_agent_wrote_that_came_and_went_during_a_pass_stays(gateway: Gateway, tmp_path: Path) -> None:
    gateway.versions, folder = [1], tmp_path / "sync"
    records = SyncFolder(folder)
    make(folder, None, home=tmp_path).sync()
    of_agent = replace(records.read(), last_error="the agent's own")
    gateway.versions, gateway.meanwhile = [2], lambda: records.write(of_agent)
    with pytest.raises(ConflictError, match="an agent has run on .* meanwhile"):
        make(folder, None, home=tmp_path).sync()
    assert records.read() == of_agent
    gateway.meanwhile = list
    assert make(folder, None, home=tmp_path).sync()["models"]["m"]["version"] == 2


def test_nothing_wished_for_and_a_damaged_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="set sync_from"):
        Syncer(SyncFolder(tmp_path), None, None).sync()
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(StorageError, match="is damaged"):
        SyncFolder(tmp_path).read()


def test_a_stop_in_the_middle_of_a_pass_is_written_down_and_the_pass_changes_nothing_after_it(
    gateway: Gateway, tmp_path: Path
) -> None:
    served = Served()
    syncer = make(tmp_path, served)
    gateway.versions = [1]
    syncer.sync()
    gateway.versions = [2]
    reached, leave = threading.Event(), threading.Event()

    def stuck(model: str, source: Path | None) -> None:
        reached.set()
        leave.wait(30)

    served.switch = stuck  # type: ignore[method-assign]
    ended: list[Exception] = []

    def work() -> None:
        try:
            syncer.sync()
        except CancelledError as error:
            ended.append(error)

    pass_ = threading.Thread(target=work)
    pass_.start()
    assert reached.wait(30)
    syncer.interrupt()
    syncer.stop()
    kept = SyncFolder(tmp_path).read().models["m"]
    leave.set()
    pass_.join(30)
    assert len(ended) == 1
    assert SyncFolder(tmp_path).read().models["m"] == kept
    assert kept.current == offer(2)
    for _ in range(3):
        served = Served()
        again = make(tmp_path, served)
        again.start()
        assert served.now == "2", "to be stopped while it was loaded is no crash"
        again.stop()
