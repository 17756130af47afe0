"""`python -m devicemesh`."""

from devicemesh.cli.main import main

main()
