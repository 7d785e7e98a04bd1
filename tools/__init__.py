"""What people of this repository make files with; nothing of it is installed."""
