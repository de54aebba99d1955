"""What a gateway loads when it starts, of models in its registry."""

from pathlib import Path

import pytest

from cloud_gateway.registry import open_registry
from cloud_gateway.release.plan import parse_plan
from cloud_gateway.release.steps import begin
from cloud_gateway.release.store import ReleaseStore
from cloud_gateway.settings import GatewaySettings
from cloud_gateway.starting import versions_to_serve, with_registered_models
from runtime.bundle.locate import open_bundles
from runtime.store import open_database
from tests.cloud_gateway.bundles import make_bundle


@pytest.mark.parametrize(("to_serve", "expected"), [({}, 2), ({"small": 1}, 1), ({"small": 7}, 2), ({"other": 1}, 2)])
def test_the_newest_version_unless_releases_say_another_that_is_there(
    tmp_path: Path, to_serve: dict[str, int], expected: int
) -> None:
    registry = open_registry(str(tmp_path / "registry"), tmp_path / "cache")
    for version in (1, 2):
        registry.push(make_bundle(tmp_path / str(version), version).root)
    settings = GatewaySettings(models=("digits", "small", "nowhere"))
    digits, small, nowhere = with_registered_models(settings, registry, to_serve).models
    assert (digits, nowhere) == ("digits", "nowhere")
    assert open_bundles(small, tmp_path / "unpacked")[0].version == expected


def test_the_version_to_serve_is_stable_while_a_candidate_is_released(tmp_path: Path) -> None:
    settings = GatewaySettings()
    assert versions_to_serve(settings, tmp_path) == {}
    database = open_database(settings.database_url(tmp_path))
    store = ReleaseStore(database, "me")
    store.beat(None, 0.0)
    plan = parse_plan('model = "small"\nstable = 1\ncandidate = 2\nstages = [50, 100]')
    store.start(plan, begin(plan))
    database.dispose()
    assert versions_to_serve(settings, tmp_path) == {"small": 1}
