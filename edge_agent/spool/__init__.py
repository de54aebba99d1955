"""The offline spool: requests kept on disk until the cloud or this device can answer them, and their results for a while."""
