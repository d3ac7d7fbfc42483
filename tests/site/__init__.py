"""Tests of the site channel."""
