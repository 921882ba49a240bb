"""Sessions: persistent shells whose commands' output is kept and can be followed."""
