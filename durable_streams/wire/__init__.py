"""What goes over HTTP: from a request to a command, from an outcome to an answer; without I/O."""
