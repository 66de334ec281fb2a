"""Makes the lab's CA and its servers' certificates in the directory given."""

import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/peers"))
import peers

directory = pathlib.Path(sys.argv[1])
shutil.rmtree(directory, ignore_errors=True)
ca = peers.make_ca(directory, "Gatepost lab CA")
for name in ("edge.contoso.test", "mailbox.contoso.test", "smarthost.fabrikam.test"):
    # The servers in the containers are other users; the keys live as long as the lab.
    ca.issue(name).key.chmod(0o644)
