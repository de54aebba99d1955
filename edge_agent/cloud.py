"""An agent's way to its gateways: to ask them, and to send them statistics. One without a gateway does not import this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.bare_key import say_if_bare
from edge_agent.network_time import TimedUpstream
from edge_agent.renamed import RenamedUpstream
from edge_agent.telemetry import Telemetry, poster
from edge_agent.upstream import Gateway
from edge_agent.upstreams import Gateways
from runtime.client.address import Protocol, bearer, parse_address
from runtime.client.trust import tls_context

if TYPE_CHECKING:
    from edge_agent.settings import AgentSettings


@dataclass(frozen=True, slots=True)
class Cloud:
    """The gateways, what takes the time of calls to them, and what requests go to: the same under the models' names there."""

    gateways: Gateways
    timed: TimedUpstream
    upstream: RenamedUpstream


def connect(settings: AgentSettings) -> Cloud | None:
    """The gateways that the settings name, None where they name none; nothing is sent yet."""
    if settings.gateway is None:
        return None
    key = settings.read_api_key()
    members = [Gateway(address, key, ca_file=settings.gateway_ca) for address in settings.gateway]
    if settings.gateway_ca is not None:
        tls_context(settings.gateway_ca)  # a file that will not do shows now, not at the first fallback
    if key is not None:
        bearer(key)  # a key that cannot stand in a header shows now, not at the first fallback
    for member in members:
        say_if_bare(key, member.address, "its address as grpcs://HOST:PORT")
    gateways = Gateways(members, settings.retry_share)
    timed = TimedUpstream(gateways)
    return Cloud(gateways, timed, RenamedUpstream(timed, settings.cloud_names()))


def telemetry_of(settings: AgentSettings) -> Telemetry | None:
    """What sends statistics to the gateway, not started yet; None where they stay here."""
    if settings.gateway_http is None:
        return None
    key = settings.read_api_key()
    say_if_bare(key, parse_address(settings.gateway_http, Protocol.HTTP), "gateway_http as https://HOST:PORT")
    post = poster(settings.gateway_http, key, settings.gateway_ca)
    return Telemetry(settings.device_name, post, settings.telemetry_bytes_per_hour)
