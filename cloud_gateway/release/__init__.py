"""Releases: a candidate takes a model's traffic over, step by step, as far as the evidence goes.

Decided, pure: `plan` (what is asked for), `state` (where it stands), `steps` (what comes next), `split` (who gets which version),
`lease` (which gateway leads), `chain` (the audit log's hashes), `signature`, `comparison`.
On the way of every request: `service` (which version answers), `answering` (the releases that it asks, and who keeps answers until
labels come), `released` (one request within a release), `noted` (what was seen of it), `mirror` (beside it).
Carried out: `store` (SQLite or PostgreSQL), `controller` (what people ask, and the loop) with `leading`, `carrying_out` and
`following`, `late` (labels, metrics and what other gateways saw), `events` (log and webhook), `routes` and `cli` (admin API and
commands), `simulation` (a plan over a log of requests).
"""
