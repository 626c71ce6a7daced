"""One reader a file format: a file or folder in, named columns of text out, nothing judged yet."""
