"""What the parts' admin routes tell, as the page shows it."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cloud_gateway.admin.app import AdminRequest, AdminRoute
from cloud_gateway.automation.assembly import append_to
from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.routes import AutomationRoutes
from cloud_gateway.automation.settings import AutomationSettings
from cloud_gateway.automation.store import AutomationStore
from cloud_gateway.page_sections import MAX_LINES, Decisions, roles_of, section_documents
from cloud_gateway.release.plan import Strategy
from cloud_gateway.release.store import ReleaseStore
from runtime.store import open_database, sqlite_url


def line(number: int) -> dict[str, Any]:
    document = {"reason": f"reason {number}"}
    return {"number": number, "unix_ms": number * 1000, "event": "advance", "model": "m", "document": document}


class Parts:
    """Admin routes that answer as the real ones do, and remember what they were asked."""

    def __init__(self, lines: int) -> None:
        self.lines = [line(number) for number in range(1, lines + 1)]
        self.asked: list[dict[str, str]] = []

    async def audit(self, request: AdminRequest) -> Mapping[str, Any]:
        query = dict(request.query)
        self.asked.append(query)
        after, limit = int(query["after"]), int(query["limit"])
        return {"lines": [one for one in self.lines if one["number"] > after][:limit]}

    async def levels(self, request: AdminRequest) -> Mapping[str, Any]:
        standing = {"model": "m", "segment": "", "level": "assist", "next": {"level": "assist", "reason": "not proven"}}
        return {"standings": [standing, {"model": "n", "segment": "", "level": "full"}]}


async def test_only_new_lines_of_the_audit_log_are_read_and_the_newest_come_first() -> None:
    parts = Parts(2500)
    decisions = Decisions(AdminRoute("GET", "/admin/audit", parts.audit), None)
    told = (await decisions.tell())["decisions"]
    assert [asked["after"] for asked in parts.asked] == ["0", "1000", "2000"]
    assert len(told) == MAX_LINES
    advanced = {"at": 2500.0, "what": "advance", "model": "m", "reason": "reason 2500"}
    assert told[0] == {**advanced, "acted": True, "is_own": True, "who": None}
    parts.lines.append(line(2501))
    assert (await decisions.tell())["decisions"][0]["at"] == 2501.0
    assert parts.asked[-1]["after"] == "2500"


async def test_only_what_the_system_did_by_itself_is_its_own_action() -> None:
    parts = Parts(0)
    events = [
        ("advance", {}),
        ("rollback", {"by_hand": True}),
        ("hold", {}),
        ("rollback", {}),
        ("start", {}),
        ("push", {}),
    ]
    for number, (event, document) in enumerate(events, 1):
        parts.lines.append({**line(number), "event": event, "document": document})
    told = (await Decisions(AdminRoute("GET", "/admin/audit", parts.audit), None).tell())["decisions"][::-1]
    assert [one["is_own"] for one in told] == [True, False, False, True, False, False]
    assert [one["what"] for one in told if not one["acted"]] == ["hold"]
    assert told[1]["who"] == "a person"


async def test_levels_are_translated() -> None:
    levels = section_documents([AdminRoute("GET", "/admin/automation", Parts(0).levels)])["automation"]
    assert levels is not None
    assert [one["reason"] for one in (await levels())["models"]] == ["not proven", ""]


async def test_a_move_of_a_level_that_stands_in_both_logs_is_told_once_with_all_that_is_known(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "gateway.db"))
    audited = ReleaseStore(engine, "me")
    store = AutomationStore(engine, [AutomationSettings(model="m")], lambda: 2.5, append_to(audited.note_in))
    store.move("m", "night", Level.PARTIAL, "trusted", "anna")
    audited.note("push", "m", {"reason": "new"})

    async def audit(_: AdminRequest) -> Mapping[str, Any]:
        return {"lines": [one.to_dict() for one in audited.audit()]}

    automated = AutomationRoutes(store, None).routes()
    decisions = section_documents([AdminRoute("GET", "/admin/audit", audit), *automated])["decisions"]
    assert decisions is not None
    pushed, moved = (await decisions())["decisions"]
    assert pushed["what"] == "push"
    start = AutomationSettings(model="m").start_level
    assert moved == {
        "at": 2.5,
        "what": f"{start} → partial in segment night",
        "model": "m",
        "reason": "trusted",
        "who": "anna",
        "is_own": False,
    }
    engine.dispose()


def test_parts_without_routes_are_not_set_up() -> None:
    assert set(section_documents([]).values()) == {None}


def test_roles_follow_the_releases_that_run() -> None:
    def running(strategy: Strategy) -> Any:
        return SimpleNamespace(release=SimpleNamespace(plan=SimpleNamespace(candidate=2, strategy=strategy)))

    active: dict[str, Any] = {"m": running(Strategy.CANARY), "s": running(Strategy.SHADOW)}
    labels_of = roles_of(active)
    assert labels_of("m", "2") == {"role": "candidate", "served_by": "cloud"}
    assert labels_of("m", "1")["role"] == "stable"
    assert labels_of("s", "2")["role"] == "shadow"
    assert labels_of("other", "2")["role"] == "stable"
    del active["m"]
    assert labels_of("m", "2")["role"] == "stable"
