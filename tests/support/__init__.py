"""Helpers the tests share: real servers, fakes and waiting for conditions."""
