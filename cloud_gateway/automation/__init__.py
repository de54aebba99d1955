"""How much of a model's work is left to it: levels from "a person decides" to "the model does", evidence, and the people's queue.

Pure: `levels` (what to do, and why), `selective` (above which confidence the model may answer), `standing` (all that is known
of one model and segment). Around them: `store` (SQLite through `runtime.store`), `service` (before the models), `routes`,
`cli`.
"""

from cloud_gateway.automation.levels import Level
from cloud_gateway.automation.settings import AutomationSettings

__all__ = ["AutomationSettings", "Level"]
