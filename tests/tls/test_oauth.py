"""AUTH XOAUTH2 with client credentials, against a small token server and a submission server."""

import base64
import http.server
import json
import re
import subprocess
import threading
import unittest
import urllib.parse

import peers
from cases import receive, roots, send
from gatepost import BINARY, FAST_RETRIES, Dialogue, Gatepost, server
from hops import Hop, server_context

SECRET = "client secret & more"


class TokenServer:
    """A token endpoint over HTTPS. It grants token-1, token-2, …, or answers as `refusal` says.

    life      `expires_in` of what it grants, in seconds
    refusal   (status, object) to answer with instead
    """

    def __init__(self, context, port=0, life=3600, refusal=None):
        self.life, self.refusal, self.requests = life, refusal, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.requests.append((self.path, {name: value for name, [value] in form.items()}))
                granted = {"token_type": "Bearer", "access_token": f"token-{len(outer.requests)}", "expires_in": outer.life}
                status, answer = outer.refusal or (200, granted)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class OAuth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = cls.enterClassContext(peers.tempfile_dir())
        cls.ca = peers.make_ca(cls.base / "ca")
        cls.tls = server_context(cls.ca.issue("hop.test"))
        cls.https = server_context(cls.ca.issue("localhost"))
        (cls.base / "secret").write_text(SECRET + "\n")

    def setUp(self):
        self.presented, self.refused = [], set()
        self.challenges = False
        self.hop = self.enterContext(Hop(tls=self.tls, capabilities=("8BITMIME", "AUTH XOAUTH2"), answers={"AUTH": self.auth}))

    def auth(self, session, line):
        """The submission server's part: it takes every token that is not in `refused`."""
        response = base64.b64decode(line.split(b" ")[2]).decode()
        token = re.fullmatch("user=relay@contoso\\.test\x01auth=Bearer ([!-~]+)\x01\x01", response)[1]
        self.presented.append((session, token))
        if token not in self.refused and "all" not in self.refused:
            return b"235 2.7.0 welcome\r\n"
        if self.challenges:
            session.send(b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")
            self.assertEqual(session.line(), b"")
        return b"535 5.7.3 Authentication unsuccessful\r\n"

    def parts(self, token_port):
        auth = {"mechanism": "xoauth2", "username": "relay@contoso.test", "client_id": "app",
                "token_url": f"https://localhost:{token_port}/tenant/oauth2/v2.0/token",
                "client_secret_file": self.base / "secret", "scope": "https://outlook.test/.default"}
        return [server(), roots(self.ca.path), receive(), FAST_RETRIES,
                send(smart_hosts=[f"127.0.0.1:{self.hop.port}"], tls="validate_domain", tls_domain="hop.test",
                     auth=auth, max_messages_per_connection=1)]

    def edge(self, token_port):
        text = "\n".join(self.parts(token_port))
        return self.enterContext(Gatepost(self.base / self.id().rpartition(".")[2], text))

    def submit(self, edge, subject):
        with Dialogue(edge.port) as client:
            for command in ("EHLO client.test", "MAIL FROM:<>", "RCPT TO:<don@contoso.test>", "DATA",
                            f"Subject: {subject}\r\n\r\nx\r\n."):
                self.assertIn(client.ask(command)[:3], ("250", "354"))

    def tokens(self):
        """The tokens presented, in order."""
        return [token for _, token in self.presented]

    def assert_secrets_stay_in(self, edge):
        """Neither the client's secret nor a token is in any file the relay wrote."""
        edge.stop()
        written = {path: path.read_bytes() for path in edge.directory.rglob("*") if path.is_file()}
        said = b"".join(written.values())
        self.assertIn(b"AUTH XOAUTH2 <authentication information>", said)
        for token in {*self.tokens(), "token-1"}:
            response = base64.b64encode(f"user=relay@contoso.test\x01auth=Bearer {token}\x01\x01".encode())
            # The end of the response has the token; its beginning, only the user.
            for secret in (SECRET.encode(), urllib.parse.quote(SECRET).encode(), token.encode(), response, response[-16:]):
                self.assertNotIn(secret, said)

    def test_a_token_is_kept(self):
        with TokenServer(self.https) as tokens:
            edge = self.edge(tokens.port)
            for number in range(3):
                self.submit(edge, f"kept {number}")
                self.hop.wait_messages(number + 1)
            self.assertEqual(self.tokens(), ["token-1"] * 3)
            self.assertEqual(tokens.requests, [("/tenant/oauth2/v2.0/token", {
                "grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET,
                "scope": "https://outlook.test/.default"})])
            self.assertTrue(all(message.session.tls for message in self.hop.messages))
            self.assert_secrets_stay_in(edge)

    def test_a_token_is_replaced_ahead_of_its_end(self):
        # Its last minute is too short to begin a session with.
        with TokenServer(self.https, life=60) as tokens:
            edge = self.edge(tokens.port)
            for number in range(2):
                self.submit(edge, f"short {number}")
                self.hop.wait_messages(number + 1)
            self.assertEqual(self.tokens(), ["token-1", "token-2"])

    def test_a_revoked_token_is_replaced_at_once(self):
        for self.challenges in (False, True):
            with self.subTest(challenges=self.challenges), TokenServer(self.https) as tokens:
                before = len(self.hop.messages)
                self.presented.clear()
                self.refused.clear()
                edge = self.edge(tokens.port)
                self.submit(edge, "first")
                self.hop.wait_messages(before + 1)
                self.refused.add("token-1")
                self.submit(edge, "second")
                [*_, message] = self.hop.wait_messages(before + 2)
                self.assertEqual(self.tokens(), ["token-1", "token-1", "token-2"])
                # In one session: the mail waits for no retry.
                self.assertEqual([session for session, _ in self.presented[1:]], [message.session] * 2)
                self.assertEqual(len(tokens.requests), 2)
                self.assertNotIn("queue in retry", edge.diagnostics())
                self.assert_secrets_stay_in(edge)

    def test_a_new_token_that_is_refused_is_not_asked_for_in_a_loop(self):
        self.refused.add("all")
        with TokenServer(self.https) as tokens:
            edge = self.edge(tokens.port)
            self.submit(edge, "later")
            self.hop.wait_sessions(3)
            edge.wait_diagnostics("535 5.7.3 Authentication unsuccessful")
            self.assertEqual(self.hop.messages, [])
            # One token a session, and a new one for the next.
            sessions = [session for session, _ in self.presented]
            self.assertEqual(len(set(map(id, sessions))), len(sessions))
            self.assertEqual(len(set(self.tokens())), len(sessions))
            self.refused.clear()
            self.hop.wait_subjects(["later"])
            self.assert_secrets_stay_in(edge)

    def validate(self, token_port):
        """The finished `gatepost validate`, and its step AUTH."""
        config = self.base / "validate.toml"
        config.write_text("\n".join(self.parts(token_port)).replace("{port}", "25"))
        done = subprocess.run([BINARY, "validate", "-c", config, "Out", "--to", "don@contoso.test", "--json"],
                              capture_output=True, text=True, timeout=60)
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        [step] = [step for task in json.loads(done.stdout)["tasks"] for step in task["steps"] if step["step"] == "auth"]
        return done, step

    def test_validation_of_a_connector(self):
        with TokenServer(self.https) as tokens:
            done, step = self.validate(tokens.port)
            self.assertEqual((done.returncode, step["detail"]), (0, "XOAUTH2 as relay@contoso.test: 235 2.7.0 welcome"))
            self.refused.add("all")
            for self.challenges in (False, True):
                done, step = self.validate(tokens.port)
                self.assertEqual((done.returncode, step["result"]), (1, "failed"))
                self.assertIn("AUTH was refused: 535 5.7.3 Authentication unsuccessful", step["detail"])
        self.assertEqual([session.problem for session, _ in self.presented if session.problem], [])
        # Nobody grants tokens any more.
        done, step = self.validate(tokens.port)
        self.assertIn("credentials cannot be used: no OAuth 2 token: Connection refused", step["detail"])
        self.assertEqual(self.tokens(), ["token-1", "token-2", "token-3"])

    def test_a_token_server_that_is_down_or_refuses_holds_the_mail(self):
        port = peers.free_port()
        edge = self.edge(port)
        self.submit(edge, "patient")
        edge.wait_diagnostics("454 4.7.0 No OAuth 2 token: Connection refused")
        refusal = (401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid\r\nTrace ID: 1"})
        with TokenServer(self.https, port, refusal=refusal) as tokens:
            edge.wait_diagnostics("454 4.7.0 No OAuth 2 token: invalid_client AADSTS7000215: Invalid")
            self.assertEqual((self.presented, self.hop.messages), ([], []))
            tokens.refusal = None
            self.hop.wait_subjects(["patient"])
        self.assertEqual(len(self.presented), 1)
        self.assert_secrets_stay_in(edge)

    def test_a_token_server_nobody_vouches_for_learns_nothing(self):
        foreign = peers.make_ca(self.base / "foreign", "Nobody's CA").issue("localhost")
        with TokenServer(server_context(foreign)) as tokens:
            edge = self.edge(tokens.port)
            self.submit(edge, "never")
            edge.wait_diagnostics("no OAuth 2 token: no chain from `CN=localhost`")
            self.assertEqual((tokens.requests, self.presented, self.hop.messages), ([], [], []))


if __name__ == "__main__":
    unittest.main()
