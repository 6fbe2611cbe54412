"""How results look: in a pipe, in a notebook."""
