"""Dynamic batching as pure values: `cut` decides which waiting requests run together, `rows` joins and splits their tensors."""
