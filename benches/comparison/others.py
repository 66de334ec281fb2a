"""OpenSMTPD and Exim with their best honest settings; both are unpacked from Debian's packages."""

import os
import pathlib
import shutil
import subprocess

from peers import OpenSmtpd, _Server, free_port

EXIM = pathlib.Path(os.environ.get("GATEPOST_PEERS", pathlib.Path(__file__).resolve().parents[2] / "target/peers")) / "exim"


class OpenSmtpdRelay:
    """Debian's OpenSMTPD. Only root can start it.

    - It does NOT sync: a message it has said 250 to is lost when the machine stops before the
      kernel gets round to writing it. There is no setting for that.
    - Up to 50 connections to the next hop, and no pause between them: its defaults are 10 a host,
      5 a route and 5 seconds, made for the internet. An idle connection is closed at once: the
      last one would otherwise wait 10 seconds, and new mail with it.
    - 30,000 messages in the delivery stage at once (max-deferred, max-inflight): with the default of
      100 it takes more mail in than it lets go, and holds back the rest for seconds.
    - It offers STARTTLS, but no handshake succeeds: Debian 12's build cannot reach its private key
      with OpenSSL 3, be it RSA or ECDSA ("missing private key"; OpenSMTPD issue 1239).
    """

    name, title = "opensmtpd", "OpenSMTPD"
    # After the last connection of the warm-up it makes no new one for 10 seconds, whatever waits.
    # A relay that always has mail does not get there, so that is left out of the measurement.
    SETTLE = 11.0

    @staticmethod
    def unavailable(scenario):
        if scenario.tls:
            return "Debian 12's build fails in every handshake as a server (OpenSMTPD issue 1239)"
        if scenario.burst:
            return "no way was found to make it try again at once: it does not come to an end in the burst"
        return OpenSmtpd.unavailable()

    def __init__(self, directory, scenario, sink_port, _certificate, wrapper):
        settings = [f"mta limit {name} {value}" for name, value in (
            ("max-conn-per-host", 50), ("max-conn-per-route", 50), ("max-conn-per-source", 50),
            ("max-conn-per-connector", 50), ("max-conn-per-relay", 50), ("max-conn-per-domain", 50),
            ("conn-delay-route", 0), ("conn-delay-host", 0), ("conn-delay-source", 0), ("conn-delay-connector", 0),
            ("conn-delay-relay", 0), ("conn-delay-domain", 0), ("session-mail-max", 10000), ("session-keepalive", 0))]
        settings += ["mta max-deferred 30000", "scheduler limit max-inflight 30000", "smtp limit max-mails 10000"]
        self.server = OpenSmtpd(directory, free_port(), [], relay=f"smtp+notls://127.0.0.1:{sink_port}", settings=settings)
        self.server.wrapper = wrapper
        self.server.start()
        self.port = self.server.port

    def stop(self):
        self.server.stop()

    def log(self):
        return self.server.log()


class Exim(_Server):
    """Exim in a mount namespace of its own, where its fixed paths hold our configuration."""

    @staticmethod
    def unavailable():
        if not (EXIM / "usr/sbin/exim4").exists():
            return "Exim is not unpacked (benches/install.sh)"
        if os.geteuid() != 0:
            return "Exim has to be started by root"
        done = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
        return None if done.returncode == 0 else "no mount namespace may be made here"

    def start(self, config):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        for name, line in (("passwd", "gpexim:x:64903:64903::/nonexistent:/usr/sbin/nologin\n"), ("group", "gpexim:x:64903:\n")):
            missing = line + line.replace("gpexim", "Debian-exim")
            (self.directory / name).write_text(pathlib.Path("/etc", name).read_text() + missing)
        for name in ("spool", "log"):
            (self.directory / name).mkdir()
            os.chown(self.directory / name, 64903, 64903)
        if self.tls:
            for path in (self.tls.chain, self.tls.key):
                shutil.copy(path, self.directory / path.suffix.strip("."))
                os.chown(self.directory / path.suffix.strip("."), 64903, 64903)
        (self.directory / "exim4.conf").write_text(config)
        self._run(["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                   _NAMESPACE.format(base=self.directory, exim=EXIM.resolve())])

    def command(self, *arguments):
        """Starts the program again beside the daemon."""
        return subprocess.Popen(["nsenter", "--target", str(self.process.pid), "--mount", EXIM.resolve() / "usr/sbin/exim4",
                                 *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def log(self):
        paths = [self.directory / "output", *sorted((self.directory / "log").glob("*"))]
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in paths if path.exists())


# Its second choice of a configuration file; the first may be the machine's own.
_NAMESPACE = """
mount --bind {base}/passwd /etc/passwd
mount --bind {base}/group /etc/group
[ ! -d /etc/exim4 ] || mount -t tmpfs tmpfs /etc/exim4
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/exim4
cp {base}/exim4.conf /var/lib/exim4/config.autogenerated
exec {exim}/usr/sbin/exim4 -bdf
"""

_CONFIG = """\
exim_user = gpexim
exim_group = gpexim
exim_path = {exim}/usr/sbin/exim4
primary_hostname = relay.test
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
pid_file_path = {base}/spool/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
smtp_accept_max = {sessions}
smtp_accept_max_per_connection = 100000
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1024
rfc1413_query_timeout = 0s
split_spool_directory = true
message_logs = false
deliver_drop_privilege = true
message_size_limit = 64M
check_spool_space = 0
check_log_space = 0
keep_environment =
queue_run_max = {runners}
acl_smtp_rcpt = everybody
{tls}
begin acl
everybody:
  accept
begin routers
onward:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = onward
begin transports
onward:
  driver = smtp
  port = {sink}
  allow_localhost
  hosts_try_dane =
  hosts_try_fastopen =
  {onward_tls}
begin retry
* * F,1d,1h
"""


class EximRelay:
    """Debian's Exim (exim4-daemon-light). Only root can start it. It syncs both files of a message.

    - A delivery starts as soon as a message is there, however many a connection brought: the
      default puts all after the tenth aside for the next queue run.
    - A split spool, and no log file for each message.
    - deliver_drop_privilege: it delivers only to other hosts and needs no root for that, which saves
      it one start of itself a message. For the same reason it has no set-user-id bit here.
    - No limit on connections, a backlog that takes all of them at once, no ident, no DANE.
    - A burst is delivered by as many queue runners as make two cores busy; see `release`.
    - TLS 1.3 sessions may be resumed in both directions.
    """

    name, title = "exim", "Exim"
    RUNNERS = 8

    @staticmethod
    def unavailable(_scenario):
        return Exim.unavailable()

    def __init__(self, directory, scenario, sink_port, certificate, wrapper):
        self.server = Exim(directory, free_port(), [], tls=certificate)
        base = self.server.directory
        tls, onward_tls = "tls_advertise_hosts =", "hosts_avoid_tls = *"
        if scenario.tls:
            tls = (f"tls_certificate = {base}/pem\ntls_privatekey = {base}/key\ntls_resumption_hosts = *\n"
                   "tls_advertise_hosts = *")
            onward_tls = "hosts_require_tls = *\n  tls_verify_hosts =\n  tls_try_verify_hosts =\n  tls_resumption_hosts = *"
        self.server.wrapper = wrapper
        self.server.start(_CONFIG.format(exim=EXIM.resolve(), base=base, port=self.server.port, sink=sink_port, tls=tls,
                                         onward_tls=onward_tls, sessions=scenario.sessions + 100, runners=self.RUNNERS))
        self.port, self.runners = self.server.port, []

    def release(self):
        """What an operator does with a long queue: several runners, each forcing every message it finds free."""
        self.runners = [self.server.command("-qff") for _ in range(self.RUNNERS)]

    def stop(self):
        self.server.stop()
        for runner in self.runners:
            if runner.poll() is None:
                runner.kill()
            runner.wait()

    def log(self):
        return self.server.log()
