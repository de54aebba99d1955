"""pytest-benchmark files of the hot paths: `pytest benchmarks/micro`. Information, never part of the test suite."""
