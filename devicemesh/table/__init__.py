"""Tables of signals (CSV) to models: what `devicemesh import` does. Pure."""
