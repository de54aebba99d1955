"""What can be known of a setting before anything is measured: that it holds together, and that its server answers."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.run import with_start
from benchmarks.settings import ANYONE, Access, Setting, TargetName
from benchmarks.targets import make_target
from runtime.errors import EdgewardError, WrongUseError

ANSWER_S = 5.0
"""For a server's description of itself and of the model: short, as nothing is executed for it."""


def check(setting: Setting, access: Access = ANYONE) -> None:
    """Raises what measuring would begin with: `WrongUseError`, or a server's own error and `PeerUnreachableError`.

    In process no engine is opened, so that what a variant says when it is opened shows only when it is measured.
    """
    target = make_target(setting, ANSWER_S, access)
    if TargetName.parse(setting.target).is_inproc:
        return
    try:
        target.open()
    except EdgewardError as error:
        raise with_start(setting, error) from error
    finally:
        target.close()


def missing(settings: Iterable[Setting], access: Access = ANYONE) -> list[str]:
    """A sentence for each setting that will not be measured as things stand; `WrongUseError` is raised."""
    said = []
    for setting in dict.fromkeys(settings):
        try:
            check(setting, access)
        except WrongUseError:
            raise
        except EdgewardError as error:
            said.append(f"{setting}: {error}")
    return said
