"""REST: the protocol's routes as an ASGI application, and the HTTP server under it, with what its clients may do wrong."""
