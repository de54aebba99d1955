"""The inference runtime: what the edge agent and the cloud gateway share and neither owns."""
