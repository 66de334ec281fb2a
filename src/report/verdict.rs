//! What would break: each stricter rule, and what it would do to a session like this.

use super::session::{Outcome, Verification};
use super::words::Version;

/// A rule that might be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// TLS 1.2 or later.
    MinTls12,
    /// TLS 1.3.
    MinTls13,
    /// No mail in clear text.
    NoPlainText,
    /// The peer shows a certificate that verifies and carries the right name.
    VerifiedNames,
}

impl Rule {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 4] = [Self::MinTls12, Self::MinTls13, Self::NoPlainText, Self::VerifiedNames];

    /// The word on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MinTls12 => "min-1.2",
            Self::MinTls13 => "min-1.3",
            Self::NoPlainText => "no-plain-text",
            Self::VerifiedNames => "verified-names",
        }
    }

    /// The same for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::MinTls12 => "TLS 1.2 or later",
            Self::MinTls13 => "TLS 1.3 only",
            Self::NoPlainText => "no plain text",
            Self::VerifiedNames => "names must verify",
        }
    }

    /// What the rule would do to a session that ended so.
    pub fn verdict(self, outcome: Outcome, version: Version, verification: Verification) -> Verdict {
        match (outcome, self) {
            (Outcome::Refused | Outcome::Failed, _) => Verdict::FailsAlready,
            (Outcome::Plain, Self::NoPlainText | Self::VerifiedNames) => Verdict::Fails,
            (Outcome::Ok, Self::MinTls12) => at_least(version, Version::Tls12),
            (Outcome::Ok, Self::MinTls13) => at_least(version, Version::Tls13),
            (Outcome::Ok, Self::VerifiedNames) => match verification {
                Verification::Verified => Verdict::Passes,
                Verification::Failed => Verdict::Fails,
                Verification::NotChecked | Verification::Any => Verdict::CannotTell,
            },
            (Outcome::Unknown, Self::MinTls12 | Self::MinTls13 | Self::VerifiedNames)
            | (Outcome::Incomplete, _) => Verdict::CannotTell,
            // Without MAIL there was no mail to lose, a version rule says nothing about sessions without
            // TLS, and where STARTTLS was accepted nothing goes on in clear text.
            (Outcome::NoMail, _)
            | (Outcome::Plain, Self::MinTls12 | Self::MinTls13)
            | (Outcome::Ok | Outcome::Unknown, Self::NoPlainText) => Verdict::Passes,
        }
    }
}

fn at_least(version: Version, least: Version) -> Verdict {
    match version {
        Version::Unknown => Verdict::CannotTell,
        version if version < least => Verdict::Fails,
        _ => Verdict::Passes,
    }
}

/// What a rule would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Passes,
    /// The session would have failed.
    Fails,
    /// It failed as it is.
    FailsAlready,
    /// The log does not show enough.
    CannotTell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_judge() {
        use Verdict::{CannotTell, Fails, FailsAlready, Passes};
        let table = [
            (Outcome::Ok, Version::Tls10, Verification::NotChecked, [Fails, Fails, Passes, CannotTell]),
            (Outcome::Ok, Version::Tls12, Verification::Verified, [Passes, Fails, Passes, Passes]),
            (Outcome::Ok, Version::Tls13, Verification::Failed, [Passes, Passes, Passes, Fails]),
            (Outcome::Ok, Version::Unknown, Verification::Failed, [CannotTell, CannotTell, Passes, Fails]),
            (Outcome::Plain, Version::None, Verification::NotChecked, [Passes, Passes, Fails, Fails]),
            (Outcome::Refused, Version::Tls10, Verification::NotChecked, [FailsAlready; 4]),
            (Outcome::Failed, Version::None, Verification::NotChecked, [FailsAlready; 4]),
            (Outcome::NoMail, Version::None, Verification::NotChecked, [Passes; 4]),
            (
                Outcome::Unknown,
                Version::Unknown,
                Verification::NotChecked,
                [CannotTell, CannotTell, Passes, CannotTell],
            ),
            (Outcome::Incomplete, Version::Unknown, Verification::NotChecked, [CannotTell; 4]),
        ];
        for (outcome, version, verification, expected) in table {
            let verdicts = Rule::ALL.map(|rule| rule.verdict(outcome, version, verification));
            assert_eq!(verdicts, expected, "{outcome:?} {version:?} {verification:?}");
        }
    }
}
