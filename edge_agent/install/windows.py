"""A scheduled task of Windows (Task Scheduler schema 1.2), as `schtasks /Create /XML` takes it. Pure."""

from __future__ import annotations

import subprocess
from pathlib import PurePath
from typing import Final
from xml.sax.saxutils import escape

from edge_agent.install.service import ServiceDescription

TASK: Final = "EdgewardAgent"
# A normal process. Where it is left out the scheduler takes 7: below normal, for the processor as for the disk.
PRIORITY: Final = 5


def task_path(service: ServiceDescription) -> PurePath:
    """Where the XML lies while the scheduler reads it."""
    return service.home / "agent-task.xml"


def render(service: ServiceDescription) -> bytes:
    """The task's XML, in UTF-16 with a byte order mark as the scheduler wants it.

    A task sets no environment variables, so a small shell sets EDGEWARD_HOME before the agent starts.
    """
    inner = subprocess.list2cmdline(service.command)
    arguments = f'/d /s /c "set "EDGEWARD_HOME={service.home}" && {inner}"'
    if service.is_system:
        trigger = "<BootTrigger><Enabled>true</Enabled></BootTrigger>"
        principal = "<UserId>S-1-5-19</UserId><RunLevel>LeastPrivilege</RunLevel>"
    else:
        user = escape(service.user_name)
        trigger = f"<LogonTrigger><Enabled>true</Enabled><UserId>{user}</UserId></LogonTrigger>"
        principal = f"<UserId>{user}</UserId><LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel>"
    text = f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>Edgeward agent: models on this device, the cloud where it must</Description></RegistrationInfo>
  <Triggers>{trigger}</Triggers>
  <Principals><Principal id="Author">{principal}</Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>{PRIORITY}</Priority>
    <RestartOnFailure><Interval>PT1M</Interval><Count>255</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec><Command>cmd.exe</Command><Arguments>{escape(arguments)}</Arguments></Exec>
  </Actions>
</Task>
"""
    return text.encode("utf-16")
