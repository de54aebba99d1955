"""Requests and replies as values, and their translation to and from the protocol's messages, for both ends."""
