"""The pool: a monitor process and its worker processes. Nothing here is imported by the app's own code."""
