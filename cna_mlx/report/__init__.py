"""Reports of runs: HTML, Markdown, CSV."""
