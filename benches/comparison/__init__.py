"""What benches/relay.py is made of: scenarios, relays with their settings, load and sink, accounts, table."""

import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# The tests know how to start the peers.
sys.path.insert(0, str(REPOSITORY / "tests/peers"))
