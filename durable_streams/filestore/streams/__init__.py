"""One open stream: its state, its life, and what an append makes of both."""
