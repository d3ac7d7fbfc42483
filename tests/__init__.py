"""The tests of Omniline."""
