"""The HTTP API: customers, timelines, replies, identity, conversations, operations."""
