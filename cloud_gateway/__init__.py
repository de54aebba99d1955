"""The cloud gateway: the runtime's data plane behind API keys and limits, for edge agents and any other OIP client."""
