"""One calibration at a time in a process: two side by side would measure each other, whichever engines they are of."""

from __future__ import annotations

import threading
from typing import Final

MEASURING: Final = threading.Lock()
"""Held while candidates are measured. Calls that run meanwhile are slowed by it, and say nothing of the model."""
