"""`python -m steelyard.app`: the same as the console script, for processes that start another of ours."""

from steelyard.app.entry import main

main()
