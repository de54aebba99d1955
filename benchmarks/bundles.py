"""Which bundle a setting's model is, where it is here."""

from __future__ import annotations

from pathlib import Path

from runtime import config
from runtime.bundle.bundle import Bundle
from runtime.bundle.locate import open_bundles
from runtime.errors import BundleError


def newest(source: str) -> Bundle:
    """The newest version of a bundle by its path or the name that ships."""
    return open_bundles(source, config.home() / "bundles")[-1]


def bundle_here(source: str) -> Bundle | None:
    """The bundle, when `source` is a path or ships with Edgeward; None when it is only a name that a server knows."""
    try:
        return newest(source)
    except BundleError:
        if Path(source).exists():
            raise
        return None
