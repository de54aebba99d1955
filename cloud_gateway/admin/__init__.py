"""The admin API: HTTP and JSON on a port of its own, for whoever runs the gateway.

`app` (routes with keys, caps and headers), `key` (who may change things), `server` (the port), `client` (for our own
commands). What can be asked and told is the business of each part: it hands in its routes.
"""
