"""What all of it runs on: threads, tasks and time, and how that ends."""
