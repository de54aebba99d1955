"""Whether a manager of services can be asked, and what is told where it cannot; no manager is needed for that."""

from pathlib import PurePosixPath

import pytest

from edge_agent.install.plan import Manager
from edge_agent.install.service import ServiceDescription
from edge_agent.install.user_session import explain_no_linger, explain_unreachable, plan_ask_linger, plan_reach


def service(*, is_system: bool) -> ServiceDescription:
    home = PurePosixPath("/home/ada")
    return ServiceDescription(("python",), home / "edgeward", home, home / ".config", 1000, "ada", is_system)


@pytest.mark.parametrize(
    ("manager", "is_system", "words"),
    [
        (Manager.SYSTEMD, False, "systemctl --user show --property=Version"),
        (Manager.SYSTEMD, True, "systemctl show --property=Version"),
        (Manager.LAUNCHD, False, "launchctl print gui/1000"),
        (Manager.LAUNCHD, True, "launchctl print system"),
        (Manager.WINDOWS, False, None),
    ],
)
def test_a_manager_is_asked_for_what_changes_nothing(manager: Manager, is_system: bool, words: str | None) -> None:
    asked = plan_reach(manager, service(is_system=is_system))
    assert (None if asked is None else " ".join(asked.words)) == words


@pytest.mark.parametrize(
    ("manager", "is_system", "step"),
    [
        (Manager.SYSTEMD, False, "loginctl enable-linger ada"),
        (Manager.SYSTEMD, True, "edgeward agent run"),
        (Manager.LAUNCHD, False, "--system"),
        (Manager.LAUNCHD, True, "edgeward agent run"),
    ],
)
def test_where_it_does_not_answer_the_next_step_is_told(manager: Manager, is_system: bool, step: str) -> None:
    told = explain_unreachable(manager, service(is_system=is_system), "no bus")
    assert "no bus" in told
    assert step in told


def test_only_a_users_service_of_systemd_ends_with_the_login_unless_it_lingers() -> None:
    asked = plan_ask_linger(Manager.SYSTEMD, service(is_system=False))
    assert asked is not None
    assert asked.words == ("loginctl", "show-user", "ada", "--property=Linger", "--value")
    assert plan_ask_linger(Manager.SYSTEMD, service(is_system=True)) is None
    assert plan_ask_linger(Manager.LAUNCHD, service(is_system=False)) is None
    assert plan_ask_linger(Manager.WINDOWS, service(is_system=False)) is None
    assert "loginctl enable-linger ada" in explain_no_linger(service(is_system=False))
