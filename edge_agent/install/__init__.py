"""The agent as a service of the operating system: what to write and run is a plan, made without touching anything."""
