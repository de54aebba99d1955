"""Batch jobs submitted to the agent: kept in a database, run one after another, gone on with after a restart."""
