"""A file of rows through a model: in batches, in constant memory, with checkpoints that survive a kill, and an atomic end."""
