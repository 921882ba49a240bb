"""The code interpreter: contexts that keep their variables, each a Jupyter kernel."""
