"""What an NVIDIA GPU gives each model, by engine, precision, batch size and way of handing over tensors.

    python -m benchmarks.gpu [--quick] [--minutes 4] [--output DIR]

Every way of calling a model is measured in turns between the others, in one process a model, so that a crash costs one model's
way. Without a GPU the ways of the processor are measured, and the others are named with the reason.
"""
