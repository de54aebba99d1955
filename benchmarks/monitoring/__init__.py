"""What monitoring costs and what it finds: serving with and without it, values a second, bytes a feature, false alarms, delays.

python -m benchmarks.monitoring --out benchmarks/results [--evidently PYTHON] [--runs 200] [--only table,images,cost,speed,page]
python -m benchmarks.monitoring --only cost   the serving path alone, four servers in turn: under five minutes on a quiet machine
python -m benchmarks.monitoring.serving_cost     metrics on the serving path, on against off, interleaved
python -m benchmarks.monitoring.page             the page in a real browser: first paint, a day of seconds
"""
