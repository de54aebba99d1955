"""`python -m benchmarks.serving`: how many single rows a second servers of one model answer, ours and other people's.

    exchange     one request as it goes over the wire, and what its answer has to be
    contestants  who serves: ours over each transport, and baselines that bound what is possible
    process      a server's processes: started, ready, suspended, ended
    h2load       the load: a native program, so that it costs the servers as little as it can
    rounds       interleaved measurements
    identity     the model for large tensors
    endurance    memory over very many requests
    ratios       ours against each other server, and the bars
    reasons      why a server is missing, in one line that may be published
    results      medians, ratios and bars as JSON and Markdown

The other servers are in `benchmarks.peers`. Everybody serves the same file on ONNX Runtime with one thread.
"""
