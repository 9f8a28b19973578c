"""`python -m modeldeployment.cli`."""

from modeldeployment.cli import main

main()
