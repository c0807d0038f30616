"""The way of every write: admitted, put in the journal, brought to the files, checkpointed."""
