"""Keeping models current from the gateway: fetched, checked apart, switched to in one step, and given up where they do harm."""
