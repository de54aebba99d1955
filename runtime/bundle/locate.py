"""From what a person writes (a path, an archive, the name of a bundle that ships with Edgeward) to opened bundles."""

from __future__ import annotations

import functools
import lzma
import os
import shlex
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from runtime.bundle import unpacked
from runtime.bundle.bare import FORMAT_OF_SUFFIX, read_bare_file, read_model_folder
from runtime.bundle.bundle import MANIFEST_FILE, Bundle, read_bundle, remembered_bundle, sha256_of
from runtime.errors import BundleError, BundleNotFoundError

# Unpacked size and member count of an archive; a bundle holds a handful of model files.
MAX_ARCHIVE_BYTES = 8 << 30
MAX_ARCHIVE_MEMBERS = 1000


def open_bundles(source: str | Path, cache: Path) -> list[Bundle]:
    """Every version that `source` holds, lowest first.

    `source` is a bundle's folder, a tar of one, a bare model file, a folder `name/version/model.*`, or the name of a
    bundle that ships with Edgeward ("digits"). An archive is unpacked once, below `cache` in a folder named by sha256;
    what was unpacked and not used for a month goes when the next one comes.
    """
    known = remembered_bundle(source)
    if known is not None:
        return [known]
    path = Path(source)
    mode = _mode_of(path)
    if stat.S_ISREG(mode):
        return [read_bare_file(path)] if path.suffix in FORMAT_OF_SUFFIX else [read_bundle(_unpacked(path, cache))]
    if stat.S_ISDIR(mode):
        return [read_bundle(path)] if (path / MANIFEST_FILE).exists() else read_model_folder(path)
    require_source(source)
    return [read_bundle(shipped_bundles()[str(source)])]


def require_source(source: str | Path) -> None:
    """`BundleNotFoundError` where `source` names nothing that `open_bundles` could read; nothing is read."""
    shipped = shipped_bundles()
    mode = _mode_of(Path(source))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or str(source) in shipped):
        raise BundleNotFoundError(
            f"{str(source)!r} is no file, no folder and no bundle that ships with Edgeward "
            f"({', '.join(sorted(shipped))}); check the path"
        )


def _mode_of(path: Path) -> int:
    """What lies there, as `stat` has it; 0 for nothing, or a name that no file can have."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116  (once, where `is_file` and `is_dir` would each ask)
    except (OSError, ValueError):
        return 0


@functools.cache
def shipped_bundles() -> Mapping[str, Path]:
    """Folders of the bundles that ship with Edgeward, by name; an installation does not change under its processes."""
    models = Path(__file__).resolve().parents[1] / "models"
    folders = sorted(models.iterdir()) if models.is_dir() else []
    return MappingProxyType({folder.name: folder for folder in folders if (folder / MANIFEST_FILE).exists()})


def source_of(bundle: Bundle) -> str:
    """What to call `bundle` by on a command line: the name that ships, or where it lies, quoted for a shell."""
    if shipped_bundles().get(bundle.name) == bundle.root:
        return bundle.name
    return shlex.quote(str(bundle.root if bundle.manifest is not None else bundle.path_of(bundle.variants[0])))


def _unpacked(archive: Path, cache: Path) -> Path:
    target = cache / sha256_of(archive)
    unpacked.use(target)  # before the look: from here on nobody removes it
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Unpacked beside its place and renamed: a folder that exists is whole.
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fresh = Path(scratch) / "bundle"
            fresh.mkdir()
            _extract(archive, fresh)
            try:
                fresh.rename(target)
            except OSError:
                if not target.exists():  # otherwise another process was first, with the same bytes
                    raise
        unpacked.use(target)
        unpacked.prune(cache)
    return _bundle_folder(target, archive)


def _extract(archive: Path, target: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            _check_caps(archive, tar)
            tar.extractall(target, filter="data")  # the filter keeps paths inside and refuses devices
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        # The first words of a file that is no archive name every kind of archive that it is not.
        why = "it is no archive" if "file could not be opened" in str(error) else str(error)
        raise BundleError(
            f"{archive} is neither a model file ({', '.join(FORMAT_OF_SUFFIX)}) nor a whole tar of a bundle: {why}"
        ) from error


def _check_caps(archive: Path, tar: tarfile.TarFile) -> None:
    """Reads header by header and stops at the first over a cap, so that a bomb is not unpacked just to be weighed."""
    size = 0
    for count, member in enumerate(tar, 1):
        size += member.size
        if count > MAX_ARCHIVE_MEMBERS or size > MAX_ARCHIVE_BYTES:
            raise BundleError(
                f"archive {archive} unpacks to at least {count} files and {size} bytes; "
                f"at most {MAX_ARCHIVE_MEMBERS} files and {MAX_ARCHIVE_BYTES} bytes are unpacked"
            )


def _bundle_folder(target: Path, archive: Path) -> Path:
    """The folder with the manifest: the archive's top, or its only folder."""
    for folder in (target, *(child for child in sorted(target.iterdir()) if child.is_dir())):
        if (folder / MANIFEST_FILE).exists():
            return folder
    raise BundleError(f"archive {archive} holds no {MANIFEST_FILE}, neither at its top nor one folder down")
