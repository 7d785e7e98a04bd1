"""The nouns of the house: values, ports and errors. No I/O, no clock."""
