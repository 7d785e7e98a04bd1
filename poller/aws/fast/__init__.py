"""The hot calls over connections of our own: what does not change between two calls is made once."""
