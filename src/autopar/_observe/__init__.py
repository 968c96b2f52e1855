"""What is measured: the machine, the probe, the effects of a call."""
