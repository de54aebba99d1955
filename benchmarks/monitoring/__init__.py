"""What watching costs, and what it finds.

python -m benchmarks.monitoring.serving_cost     metrics on the serving path, on against off, interleaved
python -m benchmarks.monitoring.page             the page in a real browser: first paint, a day of seconds
"""
