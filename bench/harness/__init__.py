"""What bench/run.py is made of; each module's first lines say what it decides."""
