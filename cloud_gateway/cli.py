"""`edgeward gateway run|status|keys`: starts a gateway, asks a running one how it is, and keeps its API keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud_gateway.admin.flags import AdminHost, AdminKeyFile, AdminPort
from runtime.cli.telemetry_options import LogFormatOption, OtlpEndpoint

if TYPE_CHECKING:
    from cloud_gateway.auth import KeyStore

app = typer.Typer(help="Serves models to edge agents and to any other OIP client.", no_args_is_help=True)
keys = typer.Typer(help="Makes, lists and revokes the API keys of the gateway on this machine.", no_args_is_help=True)
app.add_typer(keys, name="keys")

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on (127.0.0.1).")]
HttpPort = Annotated[int | None, typer.Option("--http-port", help="Port of REST (8000); 0: any free one.")]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="PEM certificate: both ports then speak TLS alone.")
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", help="Its PEM private key, without a passphrase.")
]
ShownCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="The certificate it shows, where it speaks TLS.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings as TOML; flags outrank it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


@app.command(epilog="Example: edgeward gateway run digits --grpc-port 9001 --http-port 9000")
def run(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Names that ship (digits), folders, tars, or model files."),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="API keys, one a line, beside those of `gateway keys`."),
    ] = None,
    host: Host = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", help="Port of gRPC (8001); 0: any free one.")] = None,
    http_port: HttpPort = None,
    admin_host: Annotated[
        str | None, typer.Option("--admin-host", help="Address of the admin API (127.0.0.1).")
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option("--admin-port", help="Port of the admin API (8002; with --http-port 0, any); 0: any free one."),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    request_log: Annotated[
        Path | None,
        typer.Option(
            "--request-log", metavar="FILE", help="Write a line for every request: what `release simulate` reads."
        ),
    ] = None,
    config: Config = None,
    log_format: LogFormatOption = None,
    otlp_endpoint: OtlpEndpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON once it listens.")] = False,
) -> None:
    """Serves each MODEL by the Open Inference Protocol v2 until Ctrl-C; with keys made, only to who sends one."""
    given = dict(locals())
    from cloud_gateway.gateway import run as run_gateway
    from cloud_gateway.program import NAME
    from cloud_gateway.settings import GatewaySettings
    from runtime.cli.flags import flags_of
    from runtime.cli.program import announce, narrate, say_stopped, show_settings
    from runtime.config import load_settings

    loaded = load_settings(GatewaySettings, config, flags_of(GatewaySettings, given, frozenset({"config", "as_json"})))
    loaded.settings.require_models()
    show_settings(loaded)
    run_gateway(
        loaded.settings,
        on_started=lambda at, engine: announce(
            NAME, engine, at.models, as_json=as_json, also={"admin": f"http://{at.admin}"}
        ),
        progress=narrate,
    )
    say_stopped(NAME)


@app.command(epilog="Example: edgeward gateway status --http-port 9000 --json")
def status(
    key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="File whose first key to show, where one is wanted."),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address that the gateway listens on (127.0.0.1).")] = None,
    http_port: Annotated[int | None, typer.Option("--http-port", help="Its port of REST (8000).")] = None,
    tls_cert: ShownCert = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Its settings as TOML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Asks the gateway of this machine which models run on what and why, and whether it wants a key."""
    from cloud_gateway.auth import read_chosen_keys
    from cloud_gateway.program import NAME, STATUS_PATH
    from cloud_gateway.settings import AskedSettings, GatewaySettings
    from runtime.cli.console import facts, standard
    from runtime.cli.program import show_models, status_of
    from runtime.config import load_settings

    flags = {"host": host, "http_port": http_port, "api_key_file": key_file}
    settings = load_settings(AskedSettings, config, flags, known=GatewaySettings).settings
    key = None if settings.api_key_file is None else read_chosen_keys(settings.api_key_file)[0]
    shown = tls_cert or settings.tls_cert
    told = status_of(NAME, settings.host, settings.http_port, STATUS_PATH, api_key=key, tls_cert=shown)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    console = standard()
    console.print(show_models(told["models"]))
    wants = "yes" if told["wants_key"] else "no: whoever reaches it may use it"
    shown_facts = [("up for", f"{told['uptime_s']:.0f} s"), ("wants an API key", wants)]
    if requests := told.get("request_log"):
        shown_facts.append(
            ("log of requests", f"{requests['file']}; {requests['lost']:,} requests are in no line of it")
        )
    console.print(facts(shown_facts))


@app.command(epilog="Example: edgeward gateway push ./digits-2")
def push(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: its folder, or a tar of it.")],
    admin_host: AdminHost = None,
    admin_port: AdminPort = None,
    admin_key_file: AdminKeyFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Sends BUNDLE to the gateway's registry, for a release; a version that is there never changes."""
    import tempfile

    from cloud_gateway.admin.flags import connect_admin
    from runtime.bundle.locate import open_bundles
    from runtime.bundle.writing import pack
    from runtime.errors import WrongUseError

    with tempfile.TemporaryDirectory(prefix="edgeward-push-") as scratch:
        found = open_bundles(bundle, Path(scratch) / "unpacked")
        if len(found) != 1:
            raise WrongUseError(f"{bundle} holds {len(found)} versions; push them one by one, each as a bundle")
        archive = pack(found[0], Path(scratch) / "bundle.tar")
        with connect_admin(admin_host, admin_port, admin_key_file, config, changes=True) as client:
            told = client.upload("/admin/registry", archive)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(f"model {told['model']} version {told['version']} is in the registry (digest {told['digest'][:12]}…)")


@keys.command(epilog="Example: edgeward gateway keys create laptop-7")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who is to use it.")], as_json: AsJson = False
) -> None:
    """Makes a key and prints it, this once: only its hash is kept."""
    store = _store()
    is_first = not store.exists()
    key = store.create(name)
    print(json.dumps({"name": name, "key": key}, indent=2) if as_json else key)
    if is_first:
        typer.echo("This is the first key: a gateway that already runs wants keys once it is restarted.", err=True)


@keys.command(name="list", epilog="Example: edgeward gateway keys list")
def list_keys(as_json: AsJson = False) -> None:
    """Lists the keys by name and age; the keys themselves are nowhere."""
    known = _store().list()
    if as_json:
        print(json.dumps([{"name": key.name, "created": key.created.isoformat()} for key in known], indent=2))
        return
    from runtime.cli.console import facts, standard

    standard().print(facts((key.name, key.created.isoformat()) for key in known) if known else "no keys")


@keys.command(epilog="Example: edgeward gateway keys revoke laptop-7")
def revoke(name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key ends.")]) -> None:
    """Ends a key; a running gateway refuses it within a second."""
    _store().revoke(name)
    print(f"the key of {name} is revoked")


def _store() -> KeyStore:
    from cloud_gateway.auth import KeyStore
    from runtime import config

    return KeyStore.under(config.home())
