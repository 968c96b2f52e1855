"""A machine that runs a call's items in simulated time, so that decisions can be judged quickly."""
