"""How well releases are decided: simulations with known truth, our guards beside the rules that others use.

    python -m benchmarks.releases            # everything, minutes of CPU: results/releases-DATE.json and .md
    python -m benchmarks.releases --only S2 --runs 500

`rules`: Flagger's, Argo Rollouts' and a peeking z-test, on the same simulated requests. `outcomes`: what a rule did in each
run. One module for each kind of scenario; `report` has the bars and writes the tables. Scenario S7, the switch under load, runs
servers and is not here.
"""
