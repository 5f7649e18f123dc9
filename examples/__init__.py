"""Scripts that answer a question, each for a page of docs/; run them in a clone, from its top folder."""
