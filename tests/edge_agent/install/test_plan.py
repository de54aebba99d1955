"""Services as systemd, launchd and Windows are told of them: golden files, read back by those who know their formats."""

import plistlib
import shutil
import subprocess
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree import ElementTree

import pytest

from edge_agent.install import launchd, systemd, windows
from edge_agent.install.earlier import Earlier, plan_look, plan_restore
from edge_agent.install.plan import FileToWrite, Manager, manager_of, plan_install, plan_uninstall
from edge_agent.install.service import ServiceDescription

GOLDEN = Path(__file__).parent / "golden"
AWKWARD = ("/opt/my apps/python", "-m", "edgeward", "agent", "run", 'a "quoted" 100% $HOME\\model.onnx', "digits")


def posix(*, is_system: bool, command: tuple[str, ...] = AWKWARD) -> ServiceDescription:
    home = PurePosixPath("/home/ada")
    return ServiceDescription(command, home / "edge ward", home, home / ".config", 1000, "ada", is_system)


def on_windows(*, is_system: bool) -> ServiceDescription:
    home = PureWindowsPath(r"C:\Users\Ada & Co")
    command = (r"C:\Program Files\python.exe", "-m", "edgeward", "agent", "run", "digits")
    return ServiceDescription(command, home / "edgeward", home, home, 0, r"PC\Ada & Co", is_system)


RENDERED = {
    "user.service": systemd.render(posix(is_system=False)).encode(),
    "system.service": systemd.render(posix(is_system=True)).encode(),
    "user.plist": launchd.render(posix(is_system=False)),
    "system.plist": launchd.render(posix(is_system=True)),
    "user.xml": windows.render(on_windows(is_system=False)).decode("utf-16").encode(),
    "system.xml": windows.render(on_windows(is_system=True)).decode("utf-16").encode(),
}


@pytest.mark.parametrize("name", RENDERED)
def test_golden(name: str) -> None:
    assert RENDERED[name].decode() == (GOLDEN / name).read_text("utf-8")


@pytest.mark.parametrize("is_system", [False, True])
def test_systemd_itself_finds_nothing_wrong(is_system: bool, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not on this machine")
    python = shutil.which("python3")
    assert python is not None
    service = posix(is_system=is_system, command=(python, *AWKWARD[1:]))
    unit = tmp_path / systemd.UNIT
    unit.write_text(systemd.render(service).replace("User=ada", "User=root"))
    scope = [] if is_system else ["--user"]
    done = subprocess.run(
        [verify, "verify", *scope, "--man=no", str(unit)],
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if systemd.UNIT in line]
    if done.returncode and not ours:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    assert ours == []


def test_launchd_reads_the_command_as_it_is() -> None:
    said = plistlib.loads(RENDERED["user.plist"])
    assert tuple(said["ProgramArguments"]) == AWKWARD
    assert said["EnvironmentVariables"] == {"EDGEWARD_HOME": "/home/ada/edge ward"}
    assert "UserName" not in said
    assert plistlib.loads(RENDERED["system.plist"])["UserName"] == "ada"


# launchd.plist(5): the keys that are used here, and what they hold.
LAUNCHD_KEYS = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ProcessType": str,
    "ExitTimeOut": int,
    "StandardErrorPath": str,
    "UserName": str,
}


@pytest.mark.parametrize("name", ["user.plist", "system.plist"])
def test_launchd_knows_every_key(name: str) -> None:
    said = plistlib.loads(RENDERED[name])
    assert {key: type(value) for key, value in said.items()} == {key: LAUNCHD_KEYS[key] for key in said}
    assert LAUNCHD_KEYS.keys() - said.keys() == (set() if name == "system.plist" else {"UserName"})
    assert said["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")
    assert all(isinstance(word, str) for word in said["ProgramArguments"])
    assert said["KeepAlive"] == {"SuccessfulExit": False}


# Task Scheduler schema 1.2 (taskType, triggerBaseType and its extensions, principalType, settingsType, restartType, execType):
# the children that each element may have. Of triggers the order is fixed, of the others each may stand once, anywhere.
TRIGGER = ("Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit")
IN_ORDER = {"LogonTrigger": (*TRIGGER, "UserId", "Delay"), "BootTrigger": (*TRIGGER, "Delay")}
IN_ANY_ORDER = {
    "Task": ("RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"),
    "RegistrationInfo": ("URI", "SecurityDescriptor", "Source", "Date", "Author", "Version", "Description", "Documentation"),
    "Triggers": ("LogonTrigger", "BootTrigger"),
    "Principals": ("Principal",),
    "Principal": ("UserId", "LogonType", "GroupId", "DisplayName", "RunLevel"),
    "Settings": (
        "AllowStartOnDemand", "RestartOnFailure", "MultipleInstancesPolicy", "DisallowStartIfOnBatteries", "StopIfGoingOnBatteries",
        "AllowHardTerminate", "StartWhenAvailable", "NetworkProfileName", "RunOnlyIfNetworkAvailable", "WakeToRun", "Enabled",
        "Hidden", "DeleteExpiredTaskAfter", "IdleSettings", "NetworkSettings", "ExecutionTimeLimit", "Priority", "RunOnlyIfIdle",
    ),
    "RestartOnFailure": ("Interval", "Count"),
    "Actions": ("Exec",),
    "Exec": ("Command", "Arguments", "WorkingDirectory"),
}  # fmt: skip


@pytest.mark.parametrize("is_system", [False, True])
def test_the_windows_task_keeps_to_its_schema(is_system: bool) -> None:
    raw = windows.render(on_windows(is_system=is_system))
    root = ElementTree.fromstring(raw.decode("utf-16").partition("?>")[2])
    for element in root.iter():
        name, children = local(element), [local(child) for child in element]
        assert len(children) == len(set(children)), name
        if name in IN_ORDER:
            assert children == [child for child in IN_ORDER[name] if child in children], name
        else:
            assert set(children) <= set(IN_ANY_ORDER.get(name, ())), name
    texts = {local(element): element.text for element in root.iter()}
    assert 1 <= int(texts["Count"] or 0) <= 255
    assert 4 <= int(texts["Priority"] or 0) <= 6, "a normal process"
    principal = next(element for element in root.iter() if local(element) == "Principal")
    actions = next(element for element in root.iter() if local(element) == "Actions")
    assert principal.get("id") == actions.get("Context")


def local(element: ElementTree.Element) -> str:
    space, _, name = element.tag.partition("}")
    assert space == "{http://schemas.microsoft.com/windows/2004/02/mit/task"
    return name


@pytest.mark.parametrize("is_system", [False, True])
def test_the_windows_task_is_xml_in_utf_16(is_system: bool) -> None:
    raw = windows.render(on_windows(is_system=is_system))
    assert raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    root = ElementTree.fromstring(raw.decode("utf-16").partition("?>")[2])
    arguments = root.findtext("t:Actions/t:Exec/t:Arguments", None, space)
    assert arguments is not None
    assert r'set "EDGEWARD_HOME=C:\Users\Ada & Co\edgeward"' in arguments
    assert r'"C:\Program Files\python.exe" -m edgeward agent run digits' in arguments
    trigger = "t:Triggers/t:BootTrigger" if is_system else "t:Triggers/t:LogonTrigger"
    assert root.find(trigger, space) is not None


@pytest.mark.parametrize("manager", Manager)
@pytest.mark.parametrize("is_system", [False, True])
def test_uninstalling_removes_what_installing_wrote(manager: Manager, is_system: bool) -> None:
    service = on_windows(is_system=is_system) if manager is Manager.WINDOWS else posix(is_system=is_system)
    written = {file.path for file in plan_install(manager, service).files}
    assert written <= set(plan_uninstall(manager, service).remove)


@pytest.mark.parametrize("manager", Manager)
def test_what_is_put_back_is_the_file_that_was_looked_at(manager: Manager) -> None:
    service = on_windows(is_system=False) if manager is Manager.WINDOWS else posix(is_system=False)
    at = plan_look(manager, service)
    (written,) = plan_install(manager, service).files
    assert at.file == written.path
    for is_running in (True, False):
        was = Earlier(FileToWrite(at.file, b"old", is_scratch=written.is_scratch), is_running, is_enabled=True)
        back = plan_restore(manager, service, was)
        assert back.files == (was.file,)
        words = [" ".join(command.words) for command in back.commands]
        if manager is Manager.LAUNCHD:
            assert any("bootstrap" in line for line in words) == is_running
        elif manager is Manager.SYSTEMD:
            assert any("restart" in line for line in words) == is_running


def test_every_platform_has_a_manager() -> None:
    assert [manager_of(name) for name in ("linux", "darwin", "win32")] == list(Manager)
