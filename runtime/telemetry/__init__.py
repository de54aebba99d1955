"""What a running program says of itself: numbers for Prometheus and the page, spans, log lines.

What models see, and whether it drifts, is in `monitoring`.
"""
