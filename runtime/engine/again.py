"""A model that this process loaded before, from the same source in the same way: what that came to, while all of it still holds.

What a load rests on is looked at every time: the bundle's manifest, which pins its files, the file that the choice is kept in,
and machine and packages at a glance. While they are what they were, nothing is worked out again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.backends.registry import our_backends
from runtime.bundle.bundle import MANIFEST_FILE, Bundle, remembered_bundle
from runtime.bundle.locate import shipped_bundles
from runtime.bundle.unchanged import Signature, is_still, signature_at
from runtime.selection.cache import glance
from runtime.selection.choice import Choice
from runtime.selection.recall import kept_in, recall
from runtime.selection.settings import SelectionSettings


@dataclass(frozen=True, slots=True)
class Before:
    """What a load came to, and what it rests on."""

    bundle: Bundle
    choice: Choice
    manifest: tuple[str, Signature]
    """Its path, and what it was."""
    kept: tuple[str, Signature]
    """The same of the file that the choice was kept in."""
    seen: str
    """Machine and packages at a glance."""
    name: str | None = None
    """Of a bundle that ships with Edgeward: while nothing of that name lies in the working folder, it is meant."""

    def holds(self) -> bool:
        """Whether all of that is as it was."""
        if self.name is not None and os.path.exists(self.name):  # noqa: PTH110  (as `open_bundles` looks)
            return False
        return glance() == self.seen and is_still(*self.manifest) and is_still(*self.kept)


class LastTime:
    """Of one source, loaded in one way: nothing, or what the last load came to. Any thread may ask and tell."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: Before | None = None

    def recall(self) -> Before | None:
        """What a load comes to now, if that is known."""
        before = self._before
        return before if before is not None and before.holds() else None

    def note(
        self, source: str | Path, bundle: Bundle, choice: Choice, settings: SelectionSettings, folder: Path
    ) -> None:
        """What a load came to, where that can be told by a few looks at files: a bundle's folder, and a choice that was kept.

        Whatever changed since it was loaded leads to other objects than those, and nothing is noted.
        """
        is_shipped = shipped_bundles().get(str(source)) == bundle.root
        root = bundle.root if is_shipped else source
        manifest = os.path.join(root, MANIFEST_FILE)  # noqa: PTH118  (the same words as `remembered_bundle`)
        kept = kept_in(bundle, settings, folder)
        of_manifest, of_kept, seen = signature_at(manifest), signature_at(kept), glance()
        if of_manifest is None or of_kept is None or seen is None:
            return
        if remembered_bundle(root) is bundle and recall(bundle, our_backends(), settings, folder) is choice:
            name = str(source) if is_shipped else None
            self._before = Before(bundle, choice, (manifest, of_manifest), (kept, of_kept), seen, name)
