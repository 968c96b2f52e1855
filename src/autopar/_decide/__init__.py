"""Decisions as pure functions: no clock, no input or output, simulated in tests."""
