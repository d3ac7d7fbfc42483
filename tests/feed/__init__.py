"""The outgoing feed against a real hub and a real MongoDB."""
