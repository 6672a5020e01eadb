"""A program that begins to read a file through a child process, says which one, and then sits there."""

import asyncio
import os
import sys
from pathlib import Path

from steelyard.imports.parsing import ParseRequest
from steelyard.imports.process import FileParser
from tests.imports.children import parsers_of


async def main() -> None:
    parts = FileParser().parse_in_process(Path(sys.argv[1]), ParseRequest())
    await anext(parts)
    print(*parsers_of(os.getpid()), flush=True)
    await asyncio.sleep(600)


asyncio.run(main())
