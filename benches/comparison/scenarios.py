"""What is measured. One message is 4 KB unless its scenario says otherwise."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One way of sending mail through a relay.

    name            what the table calls it and `--scenarios` selects
    sessions        connections of the source at once
    per_connection  messages on each
    size            bytes of body
    tls             STARTTLS on both legs, with an ECDSA P-256 certificate
    resume          the source resumes its TLS sessions
    round_trip      milliseconds to the next hop and back
    burst           this many messages come while the next hop is down; then it comes up
    """

    name: str
    sessions: int
    per_connection: int
    size: int = 4096
    tls: bool = False
    resume: bool = False
    round_trip: int = 0
    burst: int = 0

    def load_options(self):
        """Options of mailload."""
        return {"connections": self.sessions, "per_connection": self.per_connection, "size": self.size,
                "starttls": self.tls, "resume": self.resume,
                # OpenSMTPD has a backlog of five connections and forgets the sixth.
                "ramp": 100}

    def sink_options(self):
        """Options of mailsink."""
        return [*(["--starttls"] if self.tls else []),
                *(["--round-trip", str(self.round_trip)] if self.round_trip else [])]

    def warm_up(self):
        """Messages before the clock starts: every session once, so that each relay has its processes."""
        return max(64, self.sessions)


SCENARIOS = [
    *(Scenario(f"1/conn-{n}", n, 1) for n in (1, 32, 200, 1000)),
    *(Scenario(f"50/conn-{n}", n, 50) for n in (1, 32, 200, 1000)),
    Scenario("tls-1/conn", 32, 1, tls=True),
    Scenario("tls-1/conn-resumed", 32, 1, tls=True, resume=True),
    Scenario("tls-50/conn", 32, 50, tls=True),
    Scenario("tls-50/conn-resumed", 32, 50, tls=True, resume=True),
    Scenario("1MB", 32, 10, size=1_000_000),
    Scenario("burst", 32, 50, burst=20_000),
    Scenario("far", 32, 50, round_trip=20),
]
# Those the bars are about.
QUICK = ["1/conn-32", "50/conn-32", "tls-1/conn", "tls-50/conn", "1MB", "burst", "far"]


def select(patterns):
    """Scenarios by name or by the beginning of a name, in their usual order."""
    found = [s for s in SCENARIOS if any(s.name == p or s.name.startswith(p.rstrip("*")) and p.endswith("*") for p in patterns)]
    unknown = [p for p in patterns if not any(s.name == p or p.endswith("*") for s in SCENARIOS)]
    if unknown or not found:
        raise SystemExit(f"no such scenario: {', '.join(unknown or patterns)}; there are {', '.join(s.name for s in SCENARIOS)}")
    return found
