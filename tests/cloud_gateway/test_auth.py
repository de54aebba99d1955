"""API keys: made, kept as hashes, checked, revoked while a gateway runs."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from cloud_gateway.auth import KEY_PREFIX, REFRESH_S, Authorizer, KeyStore, read_chosen_keys
from cloud_gateway.gateway import authorizer_of
from cloud_gateway.settings import GatewaySettings
from runtime.errors import UnauthenticatedError, WrongUseError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore.under(tmp_path)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_shown_once_and_only_its_hash_is_kept(store: KeyStore) -> None:
    key = store.create("laptop-7")
    assert key.startswith(KEY_PREFIX)
    assert len(key) >= 40
    assert key.removeprefix(KEY_PREFIX) not in store.file.read_text()
    assert [one.name for one in store.list()] == ["laptop-7"]
    assert store.create("laptop-8") != key


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits of this kind")
def test_nobody_else_can_read_the_file(store: KeyStore) -> None:
    before = os.umask(0)
    try:
        store.create("one")
        store.create("two")
    finally:
        os.umask(before)
    assert store.file.parent.stat().st_mode & 0o777 == 0o700
    found = {file.name: file.stat().st_mode & 0o777 for file in store.file.parent.iterdir()}
    assert found == {"keys.json": 0o600, "keys.json.lock": 0o600}


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 65])
def test_names_are_plain(store: KeyStore, name: str) -> None:
    with pytest.raises(WrongUseError, match="key name"):
        store.create(name)


def test_a_name_is_taken_once_and_an_unknown_one_cannot_be_revoked(store: KeyStore) -> None:
    store.create("one")
    with pytest.raises(WrongUseError, match="'one' exists"):
        store.create("one")
    with pytest.raises(WrongUseError, match="no key named 'two'; known: one"):
        store.revoke("two")


@pytest.mark.parametrize("text", ["", "{", '{"keys": [{"name": "x"}]}', '{"schema_version": 2}'])
def test_a_damaged_file_lets_nobody_in_and_says_so(store: KeyStore, text: str) -> None:
    store.create("one")
    store.file.write_text(text)
    with pytest.raises(WrongUseError, match="is damaged"):
        store.list()
    with pytest.raises(WrongUseError, match="is damaged"):
        Authorizer(store)


def test_only_the_right_key_is_let_in(store: KeyStore) -> None:
    key = store.create("one")
    authorize = Authorizer(store)
    authorize(key)
    for wrong in (None, "", key[:-1], key + "x", key.upper(), "ключ"):
        with pytest.raises(UnauthenticatedError) as caught:
            authorize(wrong)
        assert key not in str(caught.value)


def test_a_running_gateway_notices_new_and_revoked_keys(store: KeyStore) -> None:
    clock = Clock()
    first = store.create("one")
    authorize = Authorizer(store, monotonic=clock)
    second = store.create("two")
    store.revoke("one")
    clock.now += REFRESH_S
    authorize(second)
    with pytest.raises(UnauthenticatedError):
        authorize(first)


def test_a_file_that_is_damaged_while_it_runs_lets_nobody_in_until_it_is_mended(
    store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    key = store.create("one")
    authorize = Authorizer(store, monotonic=clock)
    good = store.file.read_text()
    store.file.write_text("{")
    clock.now += REFRESH_S
    for _ in range(3):
        with pytest.raises(UnauthenticatedError, match="cannot read its keys"):
            authorize(key)
    assert caplog.text.count("nobody is let in") == 1, "one line a look, not one a request"
    store.file.write_text(good)
    clock.now += REFRESH_S
    authorize(key)


def test_a_key_that_cannot_be_kept_leaves_nothing_behind(store: KeyStore) -> None:
    store.file.mkdir(parents=True)  # a folder in the file's place
    with pytest.raises(WrongUseError, match="cannot be written"):
        store._write(())
    assert list(store.file.parent.iterdir()) == [store.file]


def test_revoking_the_last_key_does_not_open_the_gateway(store: KeyStore, tmp_path: Path) -> None:
    settings = GatewaySettings(models=("digits",))
    assert authorizer_of(settings, tmp_path) is None
    key = store.create("one")
    store.revoke("one")
    authorize = authorizer_of(settings, tmp_path)
    assert authorize is not None
    with pytest.raises(UnauthenticatedError):
        authorize(key)


def test_keys_from_a_file_count_too(tmp_path: Path, store: KeyStore) -> None:
    file = tmp_path / "keys"
    file.write_text("first-key-0123456789\n\nsecond-key-0123456789\n")
    authorize = authorizer_of(GatewaySettings(models=("digits",), api_key_file=file), tmp_path)
    assert authorize is not None
    authorize("second-key-0123456789")
    with pytest.raises(UnauthenticatedError):
        authorize("")


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "holds no key"), ("\n \n", "holds no key"), ("ok-key-0123456789\nshort\n", "line 2 .* 5 characters")],
)
def test_a_file_of_keys_that_will_not_do(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(WrongUseError, match=error) as caught:
        read_chosen_keys(file)
    assert "short" not in str(caught.value)


def test_a_file_of_keys_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="cannot be read"):
        read_chosen_keys(tmp_path / "none")


def test_a_gateway_needs_a_model() -> None:
    with pytest.raises(WrongUseError, match="edgeward gateway run digits"):
        GatewaySettings().require_models()


def test_keys_made_at_the_same_moment_are_all_kept(tmp_path: Path) -> None:
    names = [f"laptop-{number}" for number in range(8)]
    make = "import sys; from pathlib import Path; from cloud_gateway.auth import KeyStore; sys.stdin.read(1); "
    make += "print(KeyStore(Path(sys.argv[1])).create(sys.argv[2]))"
    file = tmp_path / "gateway" / "keys.json"
    makers = [
        subprocess.Popen([sys.executable, "-c", make, str(file), name], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)
        for name in names
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("x")
        maker.stdin.flush()
    made = [maker.communicate()[0].strip() for maker in makers]
    store = KeyStore(file)
    assert sorted(key.name for key in store.list()) == names
    authorize = Authorizer(store)
    for key in made:
        authorize(key)
