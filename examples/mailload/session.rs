//! What a connection is for: some messages, one after the other.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use crate::peer::Peer;
use crate::{Args, Run, Style};

/// Larger bodies go out from where they are instead of being copied behind their header first.
const COPIED: usize = 64 << 10;

/// The parts of a message that are the same every time, where they are.
pub(crate) struct Templates {
    from: Template,
    to: Vec<Template>,
}

struct Template(String, bool);

impl Template {
    fn new(text: &str) -> Self {
        Self(text.to_owned(), text.contains("{id}"))
    }

    fn write(&self, id: u64, out: &mut Vec<u8>) {
        if self.1 {
            out.extend_from_slice(self.0.replace("{id}", &id.to_string()).as_bytes());
        } else {
            out.extend_from_slice(self.0.as_bytes());
        }
    }
}

impl Templates {
    pub(crate) fn new(args: &Args) -> Self {
        Self { from: Template::new(&args.from), to: args.to.iter().map(|to| Template::new(to)).collect() }
    }

    fn mail(&self, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        self.from.write(id, out);
        out.extend_from_slice(b">\r\n");
    }

    fn rcpt(&self, id: u64, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        self.to[index].write(id, out);
        out.extend_from_slice(b">\r\n");
    }

    fn header(&self, id: u64, crc: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"From: <");
        self.from.write(id, out);
        out.extend_from_slice(b">\r\nTo: <");
        self.to[0].write(id, out);
        // Writing to a vector does not fail.
        let _ = write!(
            out,
            ">\r\nSubject: load {id}\r\nMessage-ID: <{id}@load.test>\r\n\
             X-Load-Id: {id}\r\nX-Load-Crc: {crc:08x}\r\n\r\n"
        );
    }
}

/// Opens one connection after the other until there is nothing more to send.
pub(crate) async fn work(run: Arc<Run>, tls: Option<TlsConnector>) {
    let (mut unsent, mut scratch) = (None, Vec::new());
    while Instant::now() < run.until
        && (unsent.is_some() || run.reserved.load(Ordering::SeqCst) < run.args.count)
    {
        if let Err(error) = session(&run, tls.as_ref(), &mut unsent, &mut scratch).await {
            if !run.args.persistent {
                run.told().error.get_or_insert_with(|| error.to_string());
                return;
            }
            tokio::time::sleep(Duration::from_millis(run.args.pause)).await;
        }
    }
}

/// One connection. `unsent` is the number of a message for which there was none yet.
async fn session(
    run: &Run,
    tls: Option<&TlsConnector>,
    unsent: &mut Option<u64>,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    let mut began = Instant::now();
    // Before connecting, so that nobody connects for nothing.
    let Some(mut id) = unsent.take().or_else(|| run.begin()) else { return Ok(()) };
    let mut peer = match Peer::open(&run.args, tls, &run.unanswered).await {
        Ok(peer) => peer,
        Err((code, error)) => {
            *run.told().refused.entry(code).or_default() += 1;
            *unsent = Some(id);
            return Err(error);
        }
    };
    if let Some(resumed) = peer.resumed() {
        let mut told = run.told();
        told.resumed_handshakes += u64::from(resumed);
        told.full_handshakes += u64::from(!resumed);
    }
    for left in (0..run.args.per_connection).rev() {
        let code = match message(run, &mut peer, id, scratch).await {
            Ok(code) => code,
            Err(error) => {
                run.failed(0);
                return Err(error);
            }
        };
        if code == 250 {
            run.acknowledged(id, began.elapsed())?;
        } else {
            run.failed(code);
            if !run.args.persistent {
                return Err(io::Error::other(format!("message {id} refused with {code}")));
            }
            tokio::time::sleep(Duration::from_millis(run.args.pause)).await;
            if code == 421 || peer.say(b"RSET\r\n").await? != 250 {
                return Ok(());
            }
        }
        if left > 0 {
            began = Instant::now();
            let Some(next) = run.begin() else { break };
            id = next;
        }
    }
    let _ = peer.say(b"QUIT\r\n").await;
    Ok(())
}

/// Sends one message; the code of the reply that decided.
async fn message(run: &Run, peer: &mut Peer, id: u64, out: &mut Vec<u8>) -> io::Result<u16> {
    let (args, templates) = (&run.args, &run.templates);
    out.clear();
    templates.mail(id, out);
    if args.style == Style::Step || !peer.pipelining() {
        return step_by_step(run, peer, id, out).await;
    }
    for index in 0..args.to.len() {
        templates.rcpt(id, index, out);
    }
    if args.style == Style::Bdat {
        content(run, peer, id, out).await?;
    } else {
        out.extend_from_slice(b"DATA\r\n");
        peer.write(out).await?;
    }
    let mut decided = peer.reply().await?;
    let mut refused = (decided != 250).then_some(decided);
    let mut taken = 0;
    for _ in &args.to {
        decided = peer.reply().await?;
        taken += usize::from(decided == 250);
    }
    if taken == 0 {
        refused = refused.or(Some(decided));
    }
    let code = peer.reply().await?;
    if args.style == Style::Bdat || code != 354 {
        return Ok(refused.unwrap_or(code));
    }
    out.clear();
    content(run, peer, id, out).await?;
    peer.reply().await
}

/// One command at a time, of which MAIL is in `out`.
async fn step_by_step(run: &Run, peer: &mut Peer, id: u64, out: &mut Vec<u8>) -> io::Result<u16> {
    let code = peer.say(out).await?;
    if code != 250 {
        return Ok(code);
    }
    let (mut last, mut taken) = (0, 0);
    for index in 0..run.args.to.len() {
        out.clear();
        run.templates.rcpt(id, index, out);
        last = peer.say(out).await?;
        taken += usize::from(last == 250);
    }
    if taken == 0 {
        return Ok(last);
    }
    let code = peer.say(b"DATA\r\n").await?;
    if code != 354 {
        return Ok(code);
    }
    out.clear();
    content(run, peer, id, out).await?;
    peer.reply().await
}

/// Sends header and body behind what is in `out`: after BDAT as they are, else as DATA wants them.
async fn content(run: &Run, peer: &mut Peer, id: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let body = run.bodies.body(id);
    let bdat = run.args.style == Style::Bdat && peer.pipelining();
    let (rest, end): (_, &[u8]) = if bdat { (body.rest, b"") } else { (body.stuffed, b".\r\n") };
    let mut header = Vec::with_capacity(512);
    run.templates.header(id, body.crc, &mut header);
    if bdat {
        let size = header.len() + body.first.len() + rest.len();
        // Writing to a vector does not fail.
        let _ = write!(out, "BDAT {size} LAST\r\n");
    }
    out.extend_from_slice(&header);
    out.extend_from_slice(&body.first);
    if rest.len() > COPIED {
        let (most, last) = rest.split_at(rest.len() - COPIED / 2);
        peer.write(out).await?;
        peer.write(most).await?;
        out.clear();
        out.extend_from_slice(last);
    } else {
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(end);
    peer.write(out).await
}
