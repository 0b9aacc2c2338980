"""Servers that each break one thing, to show that the tests of that clause are able to fail."""
