"""Applications the servers under test run; this directory is on their import path."""
