"""The data plane: `service` (what answers), `scheduler` (queue, deadline, batch), `server` (one process); folders around them."""
