"""Which files a submitted job may touch: only those inside folders that the agent's settings name. Pure but for following links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.errors import InvalidInputError, UnsupportedError


def inside(path: str, allowed: Sequence[Path], what: str) -> Path:
    """`path` with links followed; `InvalidInputError` when that is in none of the folders, `UnsupportedError` without any.

    Whoever reaches the agent would otherwise read and write every file that the agent's user may.
    """
    if not allowed:
        raise UnsupportedError(
            "this agent takes no jobs: start it with the folders whose files they may read and write, as in "
            "EDGEWARD_JOB_FOLDERS=/data edgeward agent run MODEL, or job_folders in its --config"
        )
    given = Path(path)
    if not given.is_absolute():
        raise InvalidInputError(f"{what} {path!r:.200} is no absolute path; the agent does not run where you are")
    try:
        # Of an output that is not there yet, the folder.
        real = given.parent.resolve(strict=True) / given.name if not given.is_dir() else given.resolve(strict=True)
        if real.is_symlink():
            real = real.resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidInputError(f"{what} {path!r:.200} cannot be found: {error}") from None
    if not any(real.is_relative_to(folder.resolve()) for folder in allowed):
        names = ", ".join(map(str, allowed))
        raise InvalidInputError(f"{what} {path!r:.200} is outside the folders that jobs may use: {names}")
    return real
