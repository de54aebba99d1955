"""A plan to begin with: every line says what it does, and it moves with the traffic of a trial."""

EXAMPLE_PLAN = """\
# A release plan. Save it as plan.toml, then: edgeward release start plan.toml
model = "digits"
stable = 1                   # the version that answers now
candidate = 2                # the version to come: edgeward gateway push ./digits-2
strategy = "canary"          # canary: a growing share; shadow: answers beside stable, unseen; blue_green: all at once
stages = [10, 50, 100]       # percent of the traffic, stage by stage; left out: 1, 5, 10, 25, 50, 100
hold_s = 10                  # the least seconds in each stage (60)
keep_warm_s = 60             # stable stays loaded so long once the candidate has everything: the way back is one step (600)
# control_share = 50         # percent of the requests that stable answers beside it then, for the guards to compare
# promote_by_hand = true     # the last stage waits for: edgeward release promote digits
# alpha = 0.05               # the chance, over the whole release, of rolling back a candidate that is no worse
# routing_key = "user_id"    # a request parameter: who has the same value keeps meeting the same version
# waves = [1, 5, 25, 100]    # percent of the devices that are offered it then, wave by wave as their reports allow (all at once)
# wave_tolerated = 0.01      # the share of devices that may fail an update for reasons of their own
# webhook = "https://chat.example/hook"   # gets every event as JSON

# A guard rolls back on proof of harm, and lets a stage advance on proof that there is less of it than the margin.
# The larger the first stage and the margin, the fewer requests that takes: edgeward release plan plan.toml says how many.
[[guards]]
metric = "error_rate"        # error_rate | latency | disagreement | output_drift | loss | business
margin = 0.05                # at most 5 percentage points more failures than stable (without any guard: 0.01)

# [[guards]]
# metric = "latency"
# quantile = 0.99
# margin = 0.2               # p99 at most 20 % over stable's
# is_required = false        # rolls back, but no stage waits for its proof

# [shadow]                   # for a canary: stable's requests go to the candidate too, so that answers can be compared
# share = 10                 # percent of them; guards "disagreement" and "output_drift" need this table
"""
