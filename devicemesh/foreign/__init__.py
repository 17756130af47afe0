"""Configurations of other systems to models and devices: what `devicemesh import` does. Pure."""
