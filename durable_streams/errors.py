"""The errors, where programs import them from since 0.1: those of ``model.errors``."""

from durable_streams.model.errors import *  # noqa: F403 - all of them, by their names there
