"""A drift document as the page shows it."""

from __future__ import annotations

from typing import Any

from runtime.pages.drift_section import drift_section

FOUND = {
    "feature": "age",
    "suspect": "unit change",
    "detail": "all values are 12 times what they were",
    "next": "ask who sends it",
    "since": 90.0,
    "size": {"ks": 0.51234, "psi": 2.0, "js": 0.4, "wasserstein": None},
    "bins": [{"bin": "0..10", "reference": 0.5, "live": 0.125}],
}


async def test_findings_have_their_time_and_their_example() -> None:
    async def document() -> dict[str, Any]:
        model = {"model": "m", "version": 2, "learning": None, "rows": 1500, "looks": 3}
        calm, drifting = {**model, "verdicts": []}, {**model, "verdicts": [FOUND]}
        fresh = {"model": "n", "version": 1, "learning": {"rows": 12}, "rows": 0, "verdicts": []}
        return {"now": 100.0, "now_unix": 1_000_100.0, "models": [calm, drifting, fresh]}

    calm, drifting, fresh = (await drift_section(document)())["models"]
    assert (calm["verdict"], calm["findings"]) == ("none", [])
    assert calm["reason"] == "1,500 rows seen, 3 looks, no difference beyond chance"
    assert drifting["verdict"] == "drift"
    assert drifting["findings"] == [
        {
            "feature": "age",
            "size": "ks 0.512; psi 2",
            "since": 1_000_090.0,
            "kind": "unit change",
            "detail": "all values are 12 times what they were",
            "example": "0..10: 50.0% → 12.5%",
            "next": "ask who sends it",
        }
    ]
    assert (fresh["verdict"], fresh["reason"]) == ("learning", "12 rows seen; the first 1,000 become the reference")


async def test_how_often_it_is_right_without_labels_is_told_apart_from_what_has_to_hold_for_that() -> None:
    async def document() -> dict[str, Any]:
        estimate = {"accuracy": 0.97, "sample_accuracy": 0.993, "rows": 2356, "assumptions": "holds while x"}
        model = {"model": "m", "version": 2, "rows": 2356, "looks": 1, "verdicts": [FOUND], "estimate": estimate}
        return {"now": 1.0, "now_unix": 2.0, "models": [model]}

    (told,) = (await drift_section(document)())["models"]
    assert told["reason"] == "1 of its features differ; 2,356 rows seen"
    assert told["estimate"]["assumes"] == "This holds while x"
    assert told["estimate"]["said"] == (
        "Without labels, by how sure it is: 97.0% of the newest 2,356 answers right, 99.3% of the samples"
    )


async def test_a_version_that_nobody_asked_is_not_called_calm() -> None:
    async def document() -> dict[str, Any]:
        model = {"model": "m", "version": 2, "rows": 0, "looks": 0, "verdicts": [], "features": {"x": {"rows": 0}}}
        return {"now": 1.0, "now_unix": 2.0, "models": [model]}

    (told,) = (await drift_section(document)())["models"]
    assert (told["verdict"], told["reason"]) == ("unseen", "0 rows seen, none looked at yet")
    assert told["statistics"] is None


async def test_rows_of_devices_are_told_apart_and_dated_as_others() -> None:
    async def document() -> dict[str, Any]:
        seen = {"model": "m", "version": 2, "rows": 1500, "looks": 3, "verdicts": [{**FOUND, "since": 40.0}]}
        return {"now": 100.0, "now_unix": 1_000_100.0, "models": [], "devices": {"models": [seen]}}

    (told,) = (await drift_section(document)())["models"]
    assert (told["seen_by"], told["verdict"]) == ("devices", "drift")
    assert told["findings"][0]["since"] == 1_000_040.0


def by_device(devices: int, names: list[dict[str, Any]], not_known: int = 0, private_rows: int = 0) -> dict[str, Any]:
    told = {"devices": devices, "drifting": len(names), "names": names}
    return {**told, "not_known": not_known, "private_rows": private_rows}


async def test_a_device_that_keeps_rows_to_itself_is_not_called_calm() -> None:
    seen = {"model": "m", "version": 2, "rows": 1500, "looks": 3, "verdicts": []}
    names = [{"device": "pi-0", "features": ["light"]}]

    async def document() -> dict[str, Any]:
        several = [by_device(1, [], 1, 1234), by_device(40, names, 3, 1234)]
        here = {**seen, "learning": None, "private_rows": 1234}
        devices = {"models": [{**seen, "by_device": one} for one in several]}
        return {"now": 100.0, "now_unix": 1_000_100.0, "models": [here], "devices": devices}

    here, alone, among = (await drift_section(document)())["models"]
    assert here["verdict"] == "none", "this program looks at all of its rows"
    assert here["reason"].endswith("1,234 of the rows are private: no other machine looks at them")
    unknown = "whose 1,234 private rows no other machine looks at"
    assert alone["verdict"] == "not known"
    assert alone["reason"].endswith(
        f"Of 1 device that told within a day none is known to drift; not known of 1, {unknown}"
    )
    assert among["verdict"] == "drift"
    assert among["reason"].endswith(f"1 drifts: pi-0 (light); not known of 3, {unknown}")


async def test_devices_that_drift_alone_are_named() -> None:
    names = [{"device": f"pi-{at}", "features": ["light", "place", "noise"]} for at in range(7)]

    async def document() -> dict[str, Any]:
        seen = {"model": "m", "version": 2, "rows": 1500, "looks": 3, "verdicts": []}
        several = [
            {**seen, "by_device": by_device(count, named)} for count, named in ((0, []), (40, []), (1200, names))
        ]
        return {"now": 100.0, "now_unix": 1_000_100.0, "models": [], "devices": {"models": several}}

    nobody, calm, drifting = (await drift_section(document)())["models"]
    assert (nobody["verdict"], calm["verdict"], drifting["verdict"]) == ("none", "none", "drift")
    assert "devices" not in nobody["reason"]
    assert calm["reason"].endswith("Of 40 devices that told within a day none drifts")
    assert "Of 1,200 devices that told within a day 7 drift: pi-0 (light, place)" in drifting["reason"]
    assert drifting["reason"].endswith("pi-4 (light, place) and 2 more")
