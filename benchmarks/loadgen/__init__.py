"""MLCommons LoadGen as the load: its scenarios, seeds and rules; and the same rules on our own generator where it is absent.

    rules    scheduler and early stopping, as LoadGen computes them: pure
    plan     what to run, as values
    sut      the process in which LoadGen asks a target, one scenario each
    ours     the same scenario by our own generator, judged by `rules`
    run      starts them, reads what LoadGen wrote, checks the accuracy

Whatever comes out is measured with MLCommons LoadGen (or with its rules); it is not an MLPerf result.
"""
