"""What is invoked."""
