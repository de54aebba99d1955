"""A promoted version goes to the devices in waves: which device is offered what, and what their reports lead to.

`gate` (who is next; pure), `tables` and `store` (one transaction a step, with its line of the audit log), `offers` (bundles for a
device), `routes` (what agents and whoever runs the gateway may say). The evidence is judged by `guards/waves`.
"""
