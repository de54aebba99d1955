"""The data plane: `service` (what answers), `scheduler` (queue, deadline, batch) and the transports over them."""
