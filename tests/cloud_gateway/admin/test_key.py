"""The admin key: made once, for its owner's eyes, never shown."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_gateway.admin.key import KEY_PREFIX, AdminKey, admin_key_file, make_admin_key, read_admin_key
from runtime.errors import UnauthenticatedError, WrongUseError


def test_it_is_made_once(tmp_path: Path) -> None:
    file = admin_key_file(tmp_path)
    key = make_admin_key(file)
    assert key.startswith(KEY_PREFIX)
    assert len(key) >= len(KEY_PREFIX) + 43  # 256 bits in base64
    assert make_admin_key(file) == key == read_admin_key(file)
    assert [one.name for one in file.parent.iterdir()] == ["admin.key"]


def test_gateways_that_start_at_once_share_it(tmp_path: Path) -> None:
    file = admin_key_file(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make_admin_key, [file] * 16))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits of this kind")
def test_others_cannot_read_it(tmp_path: Path) -> None:
    file = admin_key_file(tmp_path)
    before = os.umask(0)
    try:
        make_admin_key(file)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(WrongUseError, match="mode 644.*chmod 600"):
        make_admin_key(file)


def test_a_file_that_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(WrongUseError, match="there is no admin key.*--admin-key-file"):
        read_admin_key(file)
    for wrong in ("", "short\n", "two words that are long enough\n"):
        file.write_text(wrong)
        with pytest.raises(WrongUseError, match="holds no key") as caught:
            read_admin_key(file)
        assert not wrong.strip() or wrong.strip() not in str(caught.value)


def test_only_the_key_is_let_in() -> None:
    authorize = AdminKey("the-key-0123456789")
    authorize("the-key-0123456789")
    for wrong in (None, "", "the-key-012345678", "the-key-0123456789 ", "the-key-0123456780", "\udcff"):
        with pytest.raises(UnauthenticatedError):
            authorize(wrong)
