"""The agent of this machine and user as a service: what `install` on the command line is about."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.home_lock import require_free
from edge_agent.install import carry_out
from edge_agent.install.earlier import plan_look
from edge_agent.install.plan import Manager
from edge_agent.install.service import ServiceDescription
from edge_agent.install.user_session import explain_no_linger, explain_unreachable, plan_ask_linger, plan_reach
from edge_agent.offline import agent_home
from edge_agent.run_options import CONFIG
from runtime import config
from runtime.errors import ConflictError, EdgewardError, MachineError, WrongUseError

if TYPE_CHECKING:
    from edge_agent.settings import AgentSettings


def describe_service(arguments: Sequence[str], *, is_system: bool, user: str | None = None) -> ServiceDescription:
    """`edgeward agent run ARGUMENTS` by this very Python, with the state folder that this command line has."""
    home = Path.home()
    return ServiceDescription(
        command=(sys.executable, "-m", "edgeward", "agent", "run", *arguments),
        home=config.home(),
        user_home=home,
        user_config=config.user_config_home(),
        user_id=os.getuid() if hasattr(os, "getuid") else 0,
        user_name=user or getpass.getuser(),
        is_system=is_system,
    )


def require_start(given: Mapping[str, Any]) -> AgentSettings:
    """The settings of a service that is told `given`; `WrongUseError` where it would not start as it is told here.

    A service has none of the variables of whoever installs it, but EDGEWARD_HOME. Models are looked for, not opened.
    """
    from edge_agent.settings import AgentSettings
    from runtime.bundle.locate import require_source
    from runtime.engine.repository import Repository

    flags = {name: value for name, value in given.items() if name != CONFIG}
    loaded = config.load_settings(AgentSettings, given.get(CONFIG), flags)
    if lost := sorted(name for name, origin in loaded.origins.items() if origin.startswith(config.VARIABLE)):
        variables = ", ".join(loaded.origins[name].removeprefix(config.VARIABLE) for name in lost)
        raise WrongUseError(
            f"{variables}: set here, and the service would not have it; write {', '.join(lost)} to a file and name that by "
            "--config FILE, give the flag of it, or unset it"
        )
    settings = loaded.settings
    settings.require_an_arm()
    settings.read_api_key()
    repository = None if settings.model_repository is None else Repository(settings.model_repository)
    if repository is not None:
        repository.require()
    for model in settings.models:
        if repository is None or repository.find(model) is None:
            require_source(model)
    return settings


def why_unreachable(manager: Manager, service: ServiceDescription) -> EdgewardError | None:
    """What to raise where the manager of services cannot be asked here; None where it can."""
    reach = plan_reach(manager, service)
    try:
        if reach is not None:
            carry_out.ask(reach)
    except WrongUseError as error:
        return error
    except MachineError as error:
        return MachineError(explain_unreachable(manager, service, str(error)))
    return None


def why_taken(manager: Manager, service: ServiceDescription) -> EdgewardError | None:
    """What to raise where an agent that is not this service has the folder that the service would want; None where none has."""
    try:
        require_free(agent_home())
    except ConflictError as error:
        earlier = carry_out.look(plan_look(manager, service))
        return None if earlier is not None and earlier.is_running else error
    return None


def why_short_lived(manager: Manager, service: ServiceDescription) -> str | None:
    """What a person should hear of a service that ends with the login; None where it does not."""
    asked = plan_ask_linger(manager, service)
    try:
        lingers = asked is None or carry_out.ask(asked).strip() == "yes"
    except (MachineError, WrongUseError):
        lingers = False  # of a user who is neither logged in nor lingers it knows nothing
    return None if lingers else explain_no_linger(service)
