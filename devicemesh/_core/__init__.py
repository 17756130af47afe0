"""The C core `_native` and its readable twin `reference`: see `devicemesh.layout` and `.aggregate`."""
