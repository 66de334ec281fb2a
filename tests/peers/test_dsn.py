"""Delivery status notifications as another parser reads them.

The files in src/queue/dsn/golden/ are what Gatepost writes (with LF for CRLF). Python's email
package shares no code with it.
"""

import email
import email.policy
import pathlib
import unittest

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "src/queue/dsn/golden"


def load(name):
    policy = email.policy.SMTPUTF8.clone(raise_on_defect=True)
    return email.message_from_bytes((GOLDEN / f"{name}.eml").read_bytes(), policy=policy)


def blocks(message):
    """The groups of fields of the second part, as dictionaries."""
    part = message.get_payload(1)
    if part.get_content_type() == "message/delivery-status":
        return [dict(block.items()) for block in part.get_payload()]
    # Python does not know RFC 6533's type and takes it for a message: its first group is the
    # header, the others are the body.
    inner = part.get_payload(0)
    body = inner.get_payload()
    groups = [inner] + [email.message_from_string(text) for text in body.split("\n\n") if text.strip()]
    return [dict(group.items()) for group in groups]


class Notifications(unittest.TestCase):
    def check(self, name, subject, attachment, actions):
        message = load(name)
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        self.assertEqual(message["Subject"], subject)
        self.assertEqual(message["Auto-Submitted"], "auto-replied")
        self.assertEqual(len(message.get_payload()), 3)
        self.assertEqual(message.get_payload(2).get_content_type(), attachment)
        self.assertIn("Generating server: edge.contoso.com", message.get_payload(0).get_content())
        first, *recipients = blocks(message)
        self.assertEqual(first["Reporting-MTA"], "dns;edge.contoso.com")
        self.assertEqual([(r["Final-Recipient"], r["Action"], r["Status"]) for r in recipients], actions)
        for part in message.walk():
            self.assertEqual(part.defects, [])
        return message

    def test_failure(self):
        message = self.check(
            "failure",
            "Undeliverable: Quarterly figures",
            "message/rfc822",
            [("rfc822;don@contoso.com", "failed", "5.1.1"), ("rfc822;late@contoso.com", "failed", "4.4.7")],
        )
        original = message.get_payload(2).get_payload(0)
        self.assertEqual(original["Message-ID"], "<q3@fabrikam.example>")
        self.assertNotIn("X-MS-Exchange-Organization-SCL", original)
        self.assertIn("See the attachment.", original.get_payload())

    def test_delay(self):
        message = self.check(
            "delay",
            "Delivery delayed:Quarterly figures",
            "text/rfc822-headers",
            [("rfc822;don@contoso.com", "delayed", "4.7.500")],
        )
        self.assertIn("Will-Retry-Until", blocks(message)[1])

    def test_relayed(self):
        self.check(
            "relayed",
            "Relayed: Quarterly figures",
            "text/rfc822-headers",
            [("rfc822;don@contoso.com", "relayed", "2.6.0")],
        )

    def test_global(self):
        message = load("global")
        self.assertEqual(message["Subject"], "Undeliverable: Vierteljährliche figures")
        self.assertEqual(message.get_payload(1).get_content_type(), "message/global-delivery-status")
        self.assertEqual(message.get_payload(2).get_content_type(), "message/global-headers")


if __name__ == "__main__":
    unittest.main()
