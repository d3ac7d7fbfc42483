"""Tests of the pure planners: what an inbox item does to timelines, customers and conversations."""
