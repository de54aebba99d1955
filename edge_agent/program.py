"""What the agent calls itself, and where it says over HTTP how it is."""

from __future__ import annotations

from typing import Final

NAME: Final = "edgeward-agent"
STATUS_PATH: Final = "/edgeward/status"
