"""Requests between edge and cloud while links and arms fail: `python -m benchmarks.hybrid`."""
