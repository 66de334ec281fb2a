//! Plays a script against a relay of its own.

use std::collections::HashMap;
use std::time::Instant;

use crate::client::Client;
use crate::evidence::{body, eventually, header_lines, messages, receive_log};
use crate::pattern::Pattern;
use crate::script::{Action, Do, Script, Step};
use crate::world::{Server, World};

/// Lines of the dialogue shown with a failure.
const SHOWN: usize = 8;
/// Characters of each of them.
const WIDTH: usize = 160;

struct Stage<'w> {
    world: &'w World,
    // Before the server: it waits for its clients when it ends.
    clients: HashMap<String, Client>,
    server: Server<'w>,
    clock: Instant,
    /// What was said so far, for the report of a failure.
    said: Vec<String>,
}

/// An error names the line of the script, what it expected, and what it got.
pub(crate) fn play(world: &World, script: &Script) -> Result<(), String> {
    let server = world.start(&script.config).map_err(|e| format!("{}: {e}", script.name))?;
    let mut stage = Stage { world, server, clients: HashMap::new(), clock: Instant::now(), said: Vec::new() };
    for Step { line, action } in &script.steps {
        stage.act(action).map_err(|why| {
            let from = stage.said.len().saturating_sub(SHOWN);
            let said: Vec<String> = stage.said[from..]
                .iter()
                .map(|s| format!("    {}", s.chars().take(WIDTH).collect::<String>()))
                .collect();
            format!("{}:{line}: {why}\n  what was said last:\n{}", script.name, said.join("\n"))
        })?;
    }
    Ok(())
}

impl Stage<'_> {
    fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Client(name, step) => self.client_step(name, step),
            Action::Clock => {
                self.clock = Instant::now();
                Ok(())
            }
            Action::ClockAtLeast(limit) => {
                let passed = self.clock.elapsed();
                let early = format!("it took {passed:?}, and should have taken {limit:?} at least");
                if passed >= *limit { Ok(()) } else { Err(early) }
            }
            Action::Stop => {
                self.server.stop();
                Ok(())
            }
            Action::MailboxHas(address, count) => eventually(|| {
                let found = messages(self.server.dir(), address).len();
                if found == *count {
                    Ok(())
                } else {
                    Err(format!("expected {count} messages, found {found}"))
                }
            }),
            Action::MailboxLine(address, pattern) => eventually(|| {
                let all = messages(self.server.dir(), address);
                let lines: Vec<String> = all.iter().flat_map(|m| header_lines(m)).collect();
                if lines.iter().any(|line| pattern.matches(line)) {
                    return Ok(());
                }
                Err(format!("expected a header line {pattern}\n  found {lines:#?}"))
            }),
            Action::MailboxBody(address, expected) => eventually(|| {
                let all = messages(self.server.dir(), address);
                if all.iter().any(|m| body(m) == expected) {
                    return Ok(());
                }
                let found: Vec<_> = all.iter().map(|m| String::from_utf8_lossy(body(m))).collect();
                Err(format!("expected a body {:?}\n  found {found:?}", String::from_utf8_lossy(expected)))
            }),
            Action::LogHas(pattern) => eventually(|| {
                let lines = receive_log(self.server.dir())?;
                let event = |line: &String| line.splitn(7, ',').nth(6).is_some_and(|e| pattern.matches(e));
                if lines.iter().any(event) {
                    return Ok(());
                }
                Err(format!("expected the log to hold {pattern}\n  it holds\n{}", lines.join("\n")))
            }),
            Action::LogIs(expected) => eventually(|| log_is(&receive_log(self.server.dir())?, expected)),
        }
    }

    fn client_step(&mut self, name: &str, step: &Do) -> Result<(), String> {
        if let Do::Connect { from, to } = step {
            let address =
                self.server.address(*to).ok_or_else(|| format!("the relay does not listen on {to}"))?;
            self.clients.insert(name.to_owned(), Client::connect(*from, address)?);
            return Ok(());
        }
        let client = self.clients.get_mut(name).ok_or_else(|| format!("there is no client {name:?} yet"))?;
        let mut hear = |client: &mut Client| {
            let line = client.line()?;
            self.said.push(format!("{name} <- {}", line.as_deref().unwrap_or("EOF")));
            Ok::<_, String>(line)
        };
        match step {
            Do::Connect { .. } => {}
            Do::Send(bytes) => {
                self.said.push(format!("{name} -> {:?}", String::from_utf8_lossy(bytes)));
                client.send(bytes)?;
            }
            Do::Expect(pattern) => match hear(client).map_err(|e| format!("expected {pattern}\n  {e}"))? {
                Some(line) if pattern.matches(&line) => {}
                line => {
                    let line = line.as_deref().unwrap_or("EOF").to_owned();
                    return Err(format!("expected {pattern}\n  got      {line}"));
                }
            },
            Do::ExpectEnd => {
                if let Some(line) = hear(client).map_err(|e| format!("expected the end\n  {e}"))? {
                    return Err(format!("expected the end of the connection\n  got {line}"));
                }
            }
            Do::Until(code) => loop {
                let line = hear(client)?.ok_or_else(|| format!("expected a reply {code}\n  got EOF"))?;
                match line.strip_prefix(code.as_str()) {
                    Some(rest) if rest.starts_with('-') => {}
                    Some(_) => break,
                    None => return Err(format!("expected a reply {code}\n  got {line}")),
                }
            },
            Do::StartTls { certificate, only_tls12, refused } => {
                let done = client.starttls(self.world, certificate.as_deref(), *only_tls12);
                match (done, refused) {
                    (Ok(()), true) => return Err("expected the handshake to fail; it did not".into()),
                    (Err(e), false) => return Err(e),
                    _ => {}
                }
            }
            Do::Close => client.close(),
        }
        Ok(())
    }
}

fn log_is(found: &[String], expected: &[Pattern]) -> Result<(), String> {
    for (i, pattern) in expected.iter().enumerate() {
        match found.get(i) {
            Some(line) if pattern.matches(line) => {}
            line => {
                let line = line.map_or("no such line", String::as_str);
                return Err(format!("line {} of the log\n  expected {pattern}\n  got      {line}", i + 1));
            }
        }
    }
    match found.get(expected.len()) {
        None => Ok(()),
        Some(line) => Err(format!("the log goes on: {line}")),
    }
}
