"""The kernel, in the user's interpreter; loaded there by path as the private package `_toolbox_kernel`."""
