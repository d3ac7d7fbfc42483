"""The normalizer's own tests: pure functions, tables and golden files, no I/O but reading those."""
