"""What `kill_drill.py` does: the commands, and the ways in which they are stopped."""
