"""The sample connectors, and the made-up vendors that they talk to."""
