"""Runs the command as `python -m mnistport`."""

from mnistport.cli import main

raise SystemExit(main())
