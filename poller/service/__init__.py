"""What lives as long as the process: signals, reload, the running mappings, HTTP, metrics and logs."""
