"""What is done with streams: births, ends, uses, and the walks that look at all of them."""
