"""`edgeward bench`: how fast a model answers, on any target, measured so that a sceptic can check it.

    plan       what to measure: arrivals, scenarios
    do         targets (what answers), load (who asks), generator (a process of its own around both), measure (starts it)
    keep       samples (raw, on disk), environment (where they were taken)
    compute    statistics, significance: pure, from samples
    show       run, compare, report, table, notes, shown, cli

Raw samples are saved first; every figure is computed from them later.
"""
