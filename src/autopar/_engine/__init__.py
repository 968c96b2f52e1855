"""The path of a call: what is left, who draws from it, what came back, and when to change course."""
