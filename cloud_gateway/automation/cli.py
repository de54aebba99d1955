"""`edgeward review …`: what people are to decide, over a gateway's admin API."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud_gateway.admin.flags import AdminHost, AdminKeyFile, AdminPort, AsJson, Config

if TYPE_CHECKING:
    from cloud_gateway.admin.client import AdminClient

app = typer.Typer(help="Answers what a model may not decide by itself, and sees how far it may.", no_args_is_help=True)

Reviewer = Annotated[str | None, typer.Option("--reviewer", help="Who answers (the name of your account).")]
Model = Annotated[str, typer.Option("--model", help="This model alone.")]


@app.command(name="list", epilog="Example: edgeward review list --model digits")
def list_items(
    model: Model = "",
    reviewer: Reviewer = None,
    limit: Annotated[int, typer.Option("--limit", help="So many at most.", min=1, max=1000)] = 20,
    is_all: Annotated[bool, typer.Option("--all", help="Answered ones too.")] = False,
    host: AdminHost = None,
    port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Lists what waits for a person, the oldest first."""
    query = {"model": model, "limit": str(limit), "all": "1" if is_all else ""}
    query["reviewer"] = "" if is_all else reviewer or getpass.getuser()
    with _admin(host, port, key_file, config, changes=False) as client:
        items = client.get("/admin/reviews", query)["items"]
    if as_json:
        print(json.dumps(items, indent=2))
        return
    from runtime.cli.console import standard

    standard().print(_table(items) if items else "nothing waits for a person")


@app.command(epilog="Example: edgeward review answer 3f0c9a1b2c3d4e5f 7")
def answer(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Its id, as listed.")],
    value: Annotated[
        str, typer.Argument(metavar="ANSWER", help="A class, a number, or a JSON list with one for each row.")
    ],
    reviewer: Reviewer = None,
    host: AdminHost = None,
    port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Answers one item; the same answer again changes nothing."""
    document = {"answer": _parsed(value), "reviewer": reviewer or _own_name(key_file)}
    with _admin(host, port, key_file, config) as client:
        told = client.post(f"/admin/reviews/{item}/answer", document)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(f"{item}: {document['answer']!r}")
    if told["step"] is not None:
        print(f"{told['item']['model']} is now at {told['step']['level']}: {told['step']['reason']}")


@app.command(epilog="Example: edgeward review levels")
def levels(
    host: AdminHost = None,
    port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Shows how far each model may go by itself, in each segment, and what it still has to prove."""
    with _admin(host, port, key_file, config, changes=False) as client:
        told = client.get("/admin/automation")
    if as_json:
        print(json.dumps(told, indent=2))
        return
    if not told["standings"]:
        print("no model has a level of automation; an [[automation]] table in the gateway's settings gives it one")
        return
    from rich.table import Table
    from rich.text import Text

    from runtime.cli.console import standard

    table = Table("model", "segment", "level", "next", box=None, pad_edge=False)
    for one in told["standings"]:
        reason = one.get("next", {}).get("reason", "never asked yet")
        table.add_row(*(Text(str(word)) for word in (one["model"], one["segment"] or "all", one["level"], reason)))
    standard().print(table)


@app.command(epilog="Example: edgeward review move digits shadow --reason 'try it'")
def move(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="human_only, shadow, assist, partial or full.")],
    segment: Annotated[str, typer.Option("--segment", help="This segment alone.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")] = "",
    host: AdminHost = None,
    port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Sets a level by hand; evidence for the next one begins anew."""
    document = {"level": level, "segment": segment, "reason": reason, "by": getpass.getuser()}
    with _admin(host, port, key_file, config) as client:
        told = client.post(f"/admin/automation/{model}/level", document)
    print(json.dumps(told, indent=2) if as_json else f"{model} is at {told['level']}")


@app.command(epilog="Example: edgeward review key anna")
def key(name: Annotated[str, typer.Argument(metavar="NAME", help="Whose answers they will be.")]) -> None:
    """Makes a reviewer's key: it may list and answer, and nothing else. Shown once; the gateway's settings get its hash."""
    from cloud_gateway.admin.reviewers import make_key

    made, kept = make_key(name)
    print(f"The key of {name}, for the page /review or --admin-key-file; it is not shown again:\n\n    {made}\n")
    print("For the gateway's settings (--config), which take effect at its next start:\n")
    print(f'    [[reviewers]]\n    name = {json.dumps(kept.name)}\n    sha256 = "{kept.sha256}"')


@app.command(name="export", epilog="Example: edgeward review export items.jsonl --model digits")
def export_items(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file of JSON lines to write.")],
    model: Model = "",
    limit: Annotated[int, typer.Option("--limit", help="So many at most.", min=1, max=1000)] = 1000,
    host: AdminHost = None,
    port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
) -> None:
    """Writes what waits for a person as tasks for Label Studio, one a row, and prints the labelling configuration for them."""
    from dataclasses import fields

    from cloud_gateway.automation.label_studio import CHOICES_CONFIG, TEXT_CONFIG, export_lines
    from cloud_gateway.automation.queue import ReviewItem
    from runtime.errors import WrongUseError

    with _admin(host, port, key_file, config, changes=False) as client:
        items = client.get("/admin/reviews", {"model": model, "limit": str(limit)})["items"]
    known = [one.name for one in fields(ReviewItem)]
    made = [ReviewItem(**{name: item[name] for name in known}) for item in items]
    labels = {item["id"]: item["labels"] for item in items}
    try:
        output.write_text(export_lines(made, lambda item: labels[item.id]), encoding="utf-8")
    except OSError as error:
        raise WrongUseError(f"{output} cannot be written: {error}") from error
    print(f"{len(made)} items in {output}")
    if made:
        has_labels = {bool(labels[item.id]) for item in made}
        print("\nThe project's labelling configuration in Label Studio, which checks what is suggested against it:")
        for is_choice, configuration in ((True, CHOICES_CONFIG), (False, TEXT_CONFIG)):
            if is_choice in has_labels:
                print(f"\n{configuration}", end="")


@app.command(name="import", epilog="Example: edgeward review import annotations.json")
def import_items(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What Label Studio exported, JSON or JSON lines.")],
    host: AdminHost = None,
    port: AdminPort = None,
    key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Takes annotations in as answers; those that were taken before change nothing."""
    with _admin(host, port, key_file, config) as client:
        told = client.upload("/admin/reviews/import", source)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(f"{told['taken']} answers taken, {len(told['refused'])} refused")
    for one in told["refused"]:
        print(f"  {one['item']}: {one['reason']}")


def _table(items: list[Mapping[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("item", "model", "why", "the model says", "input", box=None, pad_edge=False)
    for item in items:
        suggestion = "(hidden)" if item["suggestion"] is None else _named(item["suggestion"], item["labels"])
        if item["confidence"] is not None:
            suggestion += f" at {item['confidence']:.1%}"
        shown = item["input_reference"] or item["summary"]
        table.add_row(*(Text(str(word)) for word in (item["id"], item["model"], item["why"], suggestion, shown)))
    return table


def _named(answer: Any, labels: list[str]) -> str:
    """A class by its name."""
    if isinstance(answer, list):
        return ", ".join(_named(one, labels) for one in answer)
    is_class = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(labels)
    return labels[answer] if is_class else str(answer)


def _own_name(key_file: Path | None) -> str:
    """The name of this account; with a key of her own a reviewer has the one that it stands for."""
    from cloud_gateway.admin.key import read_admin_key
    from cloud_gateway.admin.reviewers import KEY_PREFIX

    if key_file is not None and read_admin_key(key_file).startswith(KEY_PREFIX):
        return ""
    return getpass.getuser()


def _parsed(value: str) -> object:
    """JSON where it is some, else the name of a class."""
    try:
        return json.loads(value)
    except ValueError:
        return value


@contextmanager
def _admin(
    host: str | None, port: int | None, key_file: Path | None, config: Path | None, *, changes: bool = True
) -> Iterator[AdminClient]:
    from cloud_gateway.admin.flags import connect_admin

    with connect_admin(host, port, key_file, config, changes=changes) as client:
        yield client
