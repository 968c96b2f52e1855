"""The account of a call."""
