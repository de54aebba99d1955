"""Reviewers' keys: they open what is theirs, tell whose they are, and nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cloud_gateway.admin.app import AdminRequest, AdminRoute, admin_app
from cloud_gateway.admin.key import AdminKey
from cloud_gateway.admin.reviewers import ReviewerKeys, ReviewerSettings, make_key
from cloud_gateway.settings import GatewaySettings
from tests.cloud_gateway.admin.serving import KEY

ANN_KEY, ANN = make_key("ann")
BOB_KEY, BOB = make_key("bob")


async def who(request: AdminRequest) -> dict[str, Any]:
    return {"reviewer": request.reviewer}


ROUTES = [
    AdminRoute("GET", "/admin/reviews", who, is_for_reviewers=True),
    AdminRoute("POST", "/admin/reviews", who, is_for_reviewers=True),
    AdminRoute("GET", "/admin/releases", who),
    AdminRoute("POST", "/admin/releases", who),
]


@pytest.mark.parametrize("is_loopback", [True, False])
async def test_a_reviewers_key_lists_and_answers_and_opens_nothing_else(is_loopback: bool) -> None:
    app = admin_app(ROUTES, AdminKey(KEY), is_loopback=is_loopback, reviewers=ReviewerKeys((ANN, BOB)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:

        async def asked(method: str, path: str, key: str) -> httpx.Response:
            return await client.request(method, path, headers={"authorization": f"Bearer {key}"})

        for key, name in ((ANN_KEY, "ann"), (BOB_KEY, "bob"), (KEY, None)):
            for method in ("GET", "POST"):
                reply = await asked(method, "/admin/reviews", key)
                assert (reply.status_code, reply.json()) == (200, {"reviewer": name})
        for method in ("GET", "POST"):
            refused = await asked(method, "/admin/releases", ANN_KEY)
            assert refused.status_code == 401
            assert "the key of reviewer 'ann' lists and answers reviews, and nothing else" in refused.json()["error"]
            assert (await asked(method, "/admin/releases", KEY)).status_code == 200
            assert (await asked(method, "/admin/reviews", ANN_KEY + "x")).status_code == 401


def test_keys_are_told_apart_and_kept_nowhere() -> None:
    keys = ReviewerKeys((ANN, BOB))
    assert [keys.name_of(key) for key in (ANN_KEY, BOB_KEY, ANN_KEY[:-1], "", None)] == ["ann", "bob", None, None, None]
    assert ANN_KEY not in repr(ANN) + ANN.model_dump_json()
    assert make_key("ann")[0] != ANN_KEY


@pytest.mark.parametrize(("second", "said"), [({"name": "ann"}, "one name"), ({"sha256": ANN.sha256}, "one sha256")])
def test_two_reviewers_with_one_name_or_one_key_are_refused(second: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=f"two .* have {said}"):
        GatewaySettings(reviewers=(ANN, ReviewerSettings(**{**BOB.model_dump(), **second})))
