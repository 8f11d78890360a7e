"""Protocol in, protocol out. A door holds no opinion: the judge has it."""
