"""`python -m benchmarks.selection`: whether what selection chooses is the fastest that is right, and what that is worth.

    networks  networks of known architecture with random weights, as ONNX graphs
    torch_graph  such a graph as an exported program
    models    what is measured: those networks, the bundle that ships, and the models beside the checkout
    bundles   bundles of them, built as a user builds them, and kept
    oracle    all candidates measured long, and the chosen one against the best of them
    pair      gain and start, in a process of its own: interleaved pairs
    results   figures, bars, JSON and Markdown

Ratios are of interleaved pairs in one run; a ratio beyond 1 for regret or start is a loss, for gain a win.
"""
