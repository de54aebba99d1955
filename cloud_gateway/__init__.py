"""The cloud gateway: the runtime's data plane behind API keys, for edge agents and any other OIP client."""
