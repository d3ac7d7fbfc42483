"""Tests of the store: driver seam, embedded server, and what is built on them."""
