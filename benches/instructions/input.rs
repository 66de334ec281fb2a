//! Messages and replies as they come in from outside.

/// A header as a message has it on its second hop.
pub(super) const HEADER: &str = "\
Received: from mail-eopbgr70089.outbound.protection.outlook.com (40.107.7.89) by\r\n \
mx1.fabrikam.example (203.0.113.25) with Microsoft SMTP Server (version=TLS1_3,\r\n \
cipher=TLS_AES_256_GCM_SHA384) id 15.2.1544.11; Mon, 5 Oct 2026 09:00:00 +0000\r\n\
Received: from AM0PR05MB1234.eurprd05.prod.outlook.com (2603:10a6:208:d4::28) by\r\n \
AM0PR05MB1235.eurprd05.prod.outlook.com (2603:10a6:208:d4::29) with\r\n \
Microsoft SMTP Server (version=TLS1_2,\r\n \
cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.20.5709.21; Mon, 5 Oct\r\n \
2026 08:59:58 +0000\r\n\
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=fabrikam.example;\r\n \
s=selector1; h=From:Date:Subject:Message-ID:Content-Type:MIME-Version;\r\n \
bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n \
b=Zk7Hq3v0cT1y9sUoTz8rN2mJ6w5xE4bVfG1hLpQdRaKsYtUiOpAsDfGhJkLzXcVbNmQwErTyUiOp\r\n\
From: Adele Vance <adele.vance@fabrikam.example>\r\n\
To: Don Hall <don.hall@contoso.com>, Megan Bowen <megan.bowen@contoso.com>\r\n\
Subject: Minutes of Monday's meeting and the figures of the third quarter\r\n\
Thread-Topic: Minutes of Monday's meeting\r\n\
Date: Mon, 5 Oct 2026 08:59:57 +0000\r\n\
Message-ID: <AM0PR05MB1234F0A1B2C3D4E5F60718293A4B5C6D@AM0PR05MB1234.eurprd05.prod.outlook.com>\r\n\
Accept-Language: en-GB, en-US\r\n\
X-MS-Has-Attach: yes\r\n\
X-Mailer: Microsoft Outlook 16.0\r\n\
Content-Type: text/plain; charset=\"utf-8\"\r\n\
Content-Transfer-Encoding: 7bit\r\n\
MIME-Version: 1.0\r\n\
\r\n";

const LINE: &str = "The figures of the third quarter are up 4.2 per cent. See the table, p. 12.\r\n";

/// A message of at least `size` bytes, decoded.
pub(super) fn text(size: usize) -> Vec<u8> {
    body(size, LINE)
}

/// The same, but every line of the body begins with a dot.
pub(super) fn dots(size: usize) -> Vec<u8> {
    body(size, &format!(".{LINE}"))
}

fn body(size: usize, line: &str) -> Vec<u8> {
    let mut text = HEADER.as_bytes().to_vec();
    while text.len() < size {
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// A message as DATA carries it.
pub(super) fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffer = gatepost::smtp::DotStuffer::new();
    let mut wire = Vec::new();
    stuffer.feed(content, &mut wire);
    stuffer.finish(&mut wire);
    wire
}

/// The EHLO reply of Exchange Online.
pub(super) const EHLO_REPLY: &[u8] = b"250-AM5EUR02FT012.mail.protection.outlook.com Hello [203.0.113.9]\r\n\
250-SIZE 157286400\r\n\
250-PIPELINING\r\n\
250-DSN\r\n\
250-ENHANCEDSTATUSCODES\r\n\
250-STARTTLS\r\n\
250-8BITMIME\r\n\
250-BINARYMIME\r\n\
250-CHUNKING\r\n\
250 SMTPUTF8\r\n";

/// The replies of one transaction that went out in one flight.
pub(super) const FLIGHT_REPLIES: &[u8] = b"250 2.1.0 Sender OK\r\n\
250 2.1.5 Recipient OK\r\n\
250 2.6.0 <AM0PR05MB1234F0A1B2C3D4E5F60718293A4B5C6D@AM0PR05MB1234.eurprd05.prod.outlook.com> \
[InternalId=41175281763, Hostname=AM5EUR02FT012.eop-EUR02.prod.protection.outlook.com] 9811 bytes \
in 0.214, 44.641 KB/sec Queued mail for delivery\r\n";

/// The commands of one transaction that came in one flight.
pub(super) const FLIGHT: &[u8] = b"MAIL FROM:<adele.vance@fabrikam.example> SIZE=9811 BODY=8BITMIME\r\n\
RCPT TO:<don.hall@contoso.com>\r\n\
DATA\r\n";

pub(super) const CONFIGURATION: &str = r#"
[server]
hostname = "edge.contoso.com"
spool = "spool"
log_dir = "log"

[[accepted_domains]]
domain = "contoso.com"
type = "authoritative"

[[accepted_domains]]
domain = "*.contoso.com"
type = "internal_relay"

[[receive_connectors]]
name = "Default Internet"
bindings = ["127.0.0.1:2525"]
remote_ip_ranges = ["127.0.0.1"]
tls = "off"

[[send_connectors]]
name = "Inbound to Exchange"
address_spaces = ["--"]
smart_hosts = ["mbx1.contoso.com", "mbx2.contoso.com"]
tls = "opportunistic"

[[send_connectors]]
name = "To EOP"
address_spaces = ["*"]
smart_hosts = ["contoso-com.mail.protection.outlook.com"]
tls = "required"
"#;
