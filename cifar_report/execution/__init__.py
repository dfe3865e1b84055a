"""How runs are executed: a plan, then workers on this machine or on a cluster."""
