"""A run in, a report out: a page, Markdown, CSV."""
