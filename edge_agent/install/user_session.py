"""What a service depends on here: a manager that can be asked, and, for one user's, whether it outlives the login. Pure."""

from __future__ import annotations

from edge_agent.install import launchd
from edge_agent.install.plan import Command, Manager
from edge_agent.install.service import ServiceDescription


def plan_reach(manager: Manager, service: ServiceDescription) -> Command | None:
    """What succeeds where the manager can be asked, and changes nothing; None where there is always one."""
    match manager:
        case Manager.SYSTEMD:
            scope = () if service.is_system else ("--user",)
            return Command(("systemctl", *scope, "show", "--property=Version"))
        case Manager.LAUNCHD:
            return Command(("launchctl", "print", launchd.domain(service)))
        case Manager.WINDOWS:
            return None


def explain_unreachable(manager: Manager, service: ServiceDescription, told: str) -> str:
    """What to do where it fails, having told `told`."""
    if service.is_system:
        return f"no {manager} runs this machine's services ({told}); run the agent by hand: edgeward agent run"
    who = service.user_name
    if manager is Manager.LAUNCHD:
        return f"{who} is not logged in at this machine's screen ({told}); log in there, or take the machine's services: --system"
    return (
        f"the service manager of {who} cannot be reached ({told}): a container, su and sudo have none. Log in as {who}; or have it "
        f"run without a login (loginctl enable-linger {who}) and set XDG_RUNTIME_DIR=/run/user/{service.user_id}; or take the "
        "machine's services: --system"
    )


def plan_ask_linger(manager: Manager, service: ServiceDescription) -> Command | None:
    """What prints "yes" where a user's services run without a login; None where that is no question."""
    if manager is not Manager.SYSTEMD or service.is_system:
        return None
    return Command(("loginctl", "show-user", service.user_name, "--property=Linger", "--value"))


def explain_no_linger(service: ServiceDescription) -> str:
    """What a user's service without that comes to."""
    who = service.user_name
    return (
        f"it runs while {who} is logged in: it ends with the last session, ssh too, and does not start with the machine; "
        f"loginctl enable-linger {who} changes that, and so does --system"
    )
