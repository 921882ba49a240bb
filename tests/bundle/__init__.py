"""The relocatable bundle."""
