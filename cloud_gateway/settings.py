"""What a gateway can be told: by a TOML file, `EDGEWARD_*` variables or flags."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import WrongUseError
from runtime.serving.program import ModelServerSettings


class GatewaySettings(ModelServerSettings):
    """A cloud gateway: a server of models, and who may use it."""

    api_key_file: Path | None = None
    """A file of API keys, one a line, beside those that `edgeward gateway keys` made; None: only those."""

    def require_models(self) -> None:
        """`WrongUseError` when there is nothing to serve."""
        if not self.has_models:
            raise WrongUseError("no model is given; name at least one, as in: edgeward gateway run digits")
