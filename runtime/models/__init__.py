"""Bundles that ship with Edgeward, a folder each; `runtime.bundle.locate.shipped_bundles` finds them by name."""
