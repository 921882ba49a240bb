"""The stress suite, `python -m stress`: a control plane under the load of real SDK clients, held to budgets."""
