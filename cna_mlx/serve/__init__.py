"""Serve a model and its steered arms over HTTP, as OpenAI's API does."""
