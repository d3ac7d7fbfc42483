"""Tiny sample connectors, one for each door: the smallest things that are true connectors.

They are what the contract suite, the load tests and the benchmark run on, and what a newcomer
copies. Name one in ``hub.plugin_modules`` to load it.
"""
