"""What a cascade is fitted for unless told otherwise; apart, so that a command line needs no numpy for its help."""

from __future__ import annotations

from typing import Final

DEFAULT_RISK: Final = 0.01
"""How many of the answers that stand may be wrong."""
DEFAULT_DELTA: Final = 0.05
"""How many draws of labelled rows may be so lucky that the risk is not held after all."""
