"""Models held ready: `engine` (what is loaded), `model` (one version, warm and thread-safe), `versions` (policy)."""
