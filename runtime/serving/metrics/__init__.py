"""`GET /metrics`: what models did, what the server does, what is asked and said; our names, Triton's and KServe's."""
