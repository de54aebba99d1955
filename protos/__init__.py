"""The wire's messages: the Open Inference Protocol (`inference`), gRPC health (`health`) and gRPC
reflection (`reflection`).

Byte for byte what Triton's clients speak, yet in a descriptor pool of their own, so that
tritonclient, kserve or any other owner of the same names can live in the same process.

    from protos import inference
    request = inference.ModelInferRequest(model_name="digits")

The sources are the `.proto` files; `descriptors.binpb` and the `.pyi` files beside them are made
by `scripts/make_protos.py`.
"""
