"""Releases: a candidate takes a model's traffic over, step by step, as far as the evidence goes.

Decided, pure: `plan` (what is asked for), `state` (where it stands), `steps` (what comes next), `split` (who gets which version),
`lease` (which gateway leads), `chain` (the audit log's hashes), `signature`, `comparison`.
Carried out: `store` (SQLite or PostgreSQL), `service` (on the way of every request), `mirror` (beside it), `controller` (the loop),
`labels` (answers kept until their
truth comes), `events` (log and webhook), `routes` and `cli` (admin API and commands), `simulation` (a plan over a log of requests).
"""
