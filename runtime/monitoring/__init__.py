"""What models see and say: mergeable statistics of inputs and outputs, and the decision whether they drift. No I/O."""
