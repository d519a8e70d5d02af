"""The names of the embedded models; imports nothing."""

DEMO_NAMES = ("demo", "demo-base")
