"""Models held ready: `engine` (which are loaded), `loader` (how), `load` (one alone), `model` (one version)."""
