"""The registry: versions of bundles that never change once they are in it.

`shelf` (where their bytes lie: a folder, or any URL that fsspec speaks), `registry` (what is let in, and how it is found again).
"""

from cloud_gateway.registry.registry import RegisteredVersion, Registry, open_registry

__all__ = ["RegisteredVersion", "Registry", "open_registry"]
