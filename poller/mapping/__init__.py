"""One event source mapping, its files in the order a record meets them."""
