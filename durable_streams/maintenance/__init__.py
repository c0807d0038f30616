"""What a person does to a data directory while no server needs it: verify, repair, dump."""
