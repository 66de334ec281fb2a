#!/usr/bin/env python3
"""How fast `gatepost tls report` reads, and in how much memory.

    cargo build --release && benches/report.py                 # 1 GB: one file, files of 10 MB, gzip
    benches/report.py --megabytes 200 --rounds 1 --directory /dev/shm

Writes logs as a busy server writes them (sessions interleaved, one in five by an old client or in
clear text), reads them with the report, and removes them. Bar of the project: 1 GB in at most 5
seconds on 2 cores and 100 MB of memory. The first round of each warms the page cache and is not
counted; seconds are the best and the median of the others.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
BAR_SECONDS_A_GB, BAR_MEMORY = 5.0, 100
HEADER = ("#Software: Microsoft Exchange Server\r\n#Version: 15.0.0.0\r\n#Log-type: SMTP Receive Protocol Log\r\n"
          "#Date: 2026-10-05T09:00:00.113Z\r\n#Fields: date-time,connector-id,session-id,sequence-number,"
          "local-endpoint,remote-endpoint,event,data,context\r\n").encode()
PERMISSIONS = "SMTPSubmit SMTPAcceptAnySender SMTPAcceptAuthoritativeDomainSender AcceptRoutingHeaders"
# What makes a block's sessions, hour and half of its peers its own.
BLOCK_ID, BLOCK_HOUR, BLOCK_PEERS = b"08DEB10C", b"2026-10-05T09", b"203.0."


def session(number, draw):
    """The lines of one session, as (event, data, context) in one text each."""
    helo = f"mta{number}.customer{number % 977}.example"
    lines = ["+,,", f"*,{PERMISSIONS},Set Session Permissions",
             '>,"220 edge01.contoso.com Microsoft ESMTP MAIL Service ready at Mon, 5 Oct 2026 11:00:00 +0200",',
             f"<,EHLO {helo},",
             ">,250  edge01.contoso.com Hello [203.0.113.9] SIZE 37748736 PIPELINING DSN ENHANCEDSTATUSCODES STARTTLS "
             "8BITMIME BINARYMIME CHUNKING,"]
    kind = draw.random()
    if kind < 0.9:
        lines += ["<,STARTTLS,", ">,220 2.0.0 SMTP server ready,",
                  "*, CN=edge01.contoso.com CN=Lab CA 0A1B2C 9F8E7D 2026-01-01T00:00:00.000Z 2027-01-01T00:00:00.000Z "
                  "edge01.contoso.com;mail.contoso.com,Sending certificate Subject Issuer name Serial number Thumbprint "
                  "Not before Not after Subject alternate names"]
    if kind < 0.03:
        return lines + ["*,,TLS negotiation failed with error SocketError (the peer offered at most TLS 1.1)", "-,,Local"]
    if kind < 0.9:
        version = "3" if kind > 0.2 else "2"
        lines += [f'*,,"TLS protocol SP_PROT_TLS1_{version}_SERVER negotiation succeeded using bulk encryption algorithm '
                  'CALG_AES_256 with strength 256 bits, MAC hash algorithm CALG_SHA_384 with strength 0 bits and key '
                  'exchange algorithm CALG_ECDH_EPHEM with strength 384 bits"',
                  f"<,EHLO {helo},", ">,250  edge01.contoso.com Hello [203.0.113.9] SIZE 37748736 PIPELINING DSN "
                  "ENHANCEDSTATUSCODES 8BITMIME BINARYMIME CHUNKING,"]
    for message in range(draw.choice((1, 1, 1, 2, 5))):
        lines += [f"<,MAIL FROM:<sender{number}@customer{number % 977}.example> SIZE=20480,",
                  f"*,08DEB10C00000000;2026-10-05T09:00:00.113Z;{message + 1},receiving message",
                  ">,250 2.1.0 Sender OK,", f"<,RCPT TO:<user{number % 313}@contoso.com>,", ">,250 2.1.5 Recipient OK,",
                  "<,BDAT 20480 LAST,", f'>,"250 2.6.0 <{number}.{message}@customer.example> [InternalId=5111011082268, '
                  'Hostname=edge01.contoso.com] Queued mail for delivery",']
    return lines + ["<,QUIT,", ">,221 2.0.0 Service closing transmission channel,", "-,,Local"]


def block(peers, at_once=200, sessions=6000):
    """Some 25 MB of interleaved sessions; the ids of a later block are put in by replacement."""
    draw = random.Random(4)
    waiting, running, out, clock = list(range(sessions)), [], [], 0
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop()
            peer = draw.randrange(peers)
            net = "203.0" if peer % 2 else "198.51"
            head = (f",EDGE01\\Default Internet,08DEB10C{number:08X},",
                    f",10.0.0.5:25,{net}.{peer // 250 % 250}.{peer % 250}:{1024 + number},")
            running.append((head, enumerate(session(number, draw))))
        index = draw.randrange(len(running))
        (head, end), lines = running[index]
        # A few lines at a time, as sessions write them.
        for _ in range(draw.randrange(1, 6)):
            line = next(lines, None)
            if line is None:
                running.pop(index)
                break
            clock += 1
            out.append(f"2026-10-05T09:{clock // 6000 % 60:02d}:{clock // 100 % 60:02d}.{clock % 1000:03d}Z"
                       f"{head}{line[0]}{end}{line[1]}\r\n")
    return "".join(out).encode()


def blocks(total, peers):
    """Blocks until `total` bytes are reached."""
    first, written, number = block(peers), 0, 0
    while written < total:
        text = first.replace(BLOCK_ID, b"08DE%04X" % number)
        text = text.replace(BLOCK_HOUR, b"2026-10-%02dT%02d" % (1 + number // 24 % 28, number % 24))
        text = text.replace(BLOCK_PEERS, b"%d.%d." % (100 + number // 250 % 100, number % 250))
        yield number, text
        written += len(text)
        number += 1


def write(directory, total, peers, part, packed):
    """Writes the logs; the number of bytes, unpacked."""
    directory.mkdir()
    size, parts = 0, {}
    out, filled = None, 0
    for _, text in blocks(total, peers):
        while text:
            if out is None:
                name = f"RECV2026100509-{len(parts) + 1}.LOG" + (".gz" if packed else "")
                out = gzip.open(directory / name, "wb", compresslevel=1) if packed else open(directory / name, "wb")
                parts[name], filled = True, 0
                size += out.write(HEADER)
            # Files end at a line's end.
            cut = len(text) if part is None or len(text) <= part - filled else text.rfind(b"\n", 0, max(part - filled, 1)) + 1
            out.write(text[:cut])
            size, filled, text = size + cut, filled + cut, text[cut:]
            if text or (part is not None and filled >= part):
                out.close()
                out = None
    if out is not None:
        out.close()
    return size


def read(binary, directory):
    """One report: seconds, CPU seconds, peak memory in MB, sessions."""
    began = time.monotonic()
    process = subprocess.Popen([binary, "tls", "report", "--by", "version", "--json", directory],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the report ended with code {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, sum(row["sessions"] for row in json.loads(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the log (default 1000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", help="where to write it (default: the system's for temporary files)")
    parser.add_argument("--binary", default=os.environ.get("GATEPOST_BIN", REPOSITORY / "target/release/gatepost"))
    parser.add_argument("--only", choices=("one file", "10 MB files", "gzip", "many peers"), action="append")
    options = parser.parse_args()
    total = options.megabytes * 10**6
    kinds = {"one file": (5000, None, False), "10 MB files": (5000, 10 * 2**20, False),
             "gzip": (5000, None, True), "many peers": (60_000, None, False)}
    failed = False
    print(f"{'log':12} {'MB':>6} {'sessions':>9} {'best s':>7} {'median s':>8} {'MB/s':>6} {'CPU s':>6} {'peak MB':>8}")
    for kind in options.only or kinds:
        with tempfile.TemporaryDirectory(prefix="gatepost-report-", dir=options.directory) as place:
            directory = pathlib.Path(place) / "log"
            # In a process of its own: a program starts out with the peak memory of the one that starts it.
            with multiprocessing.Pool(1) as pool:
                size = pool.apply(write, (directory, total, *kinds[kind]))
            runs = [read(options.binary, directory) for _ in range(options.rounds + 1)][1:]
        best, median = min(run[0] for run in runs), statistics.median(run[0] for run in runs)
        cpu, memory = min(run[1] for run in runs), max(run[2] for run in runs)
        print(f"{kind:12} {size / 1e6:6.0f} {runs[0][3]:9} {best:7.2f} {median:8.2f} {size / 1e6 / best:6.0f} {cpu:6.2f} "
              f"{memory:8.1f}", flush=True)
        failed |= median * 1e9 / size > BAR_SECONDS_A_GB or memory > BAR_MEMORY
    if failed:
        sys.exit(f"over the bar of {BAR_SECONDS_A_GB} s a GB and {BAR_MEMORY} MB")


if __name__ == "__main__":
    main()
