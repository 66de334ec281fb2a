//! One line of a protocol log: where its fields are (exchange-edge.md 4.1 and 4.2).

use memchr::memchr;

/// No such field in this log.
const ABSENT: usize = usize::MAX;

/// Fields looked at in a line; Exchange's have nine.
const MOST_FIELDS: usize = 24;

/// Which field stands where, as the `#Fields:` line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    time: usize,
    connector: usize,
    session: usize,
    sequence: usize,
    remote: usize,
    event: usize,
    data: usize,
    context: usize,
    /// Fields of a whole line.
    count: usize,
}

/// The order all known builds write.
impl Default for Layout {
    fn default() -> Self {
        Self {
            time: 0,
            connector: 1,
            session: 2,
            sequence: 3,
            remote: 5,
            event: 6,
            data: 7,
            context: 8,
            count: 9,
        }
    }
}

impl Layout {
    /// Reads what follows `#Fields:`. None without the fields a session cannot be told by.
    pub(super) fn parse(fields: &[u8]) -> Option<Self> {
        let mut layout = Self {
            time: ABSENT,
            connector: ABSENT,
            session: ABSENT,
            sequence: ABSENT,
            remote: ABSENT,
            event: ABSENT,
            data: ABSENT,
            context: ABSENT,
            count: 0,
        };
        for (index, name) in fields.split(|&b| b == b',').take(MOST_FIELDS).enumerate() {
            layout.count = index + 1;
            let place = match name.trim_ascii().to_ascii_lowercase().as_slice() {
                b"date-time" => &mut layout.time,
                b"connector-id" => &mut layout.connector,
                b"session-id" => &mut layout.session,
                b"sequence-number" => &mut layout.sequence,
                b"remote-endpoint" => &mut layout.remote,
                b"event" => &mut layout.event,
                b"data" => &mut layout.data,
                b"context" => &mut layout.context,
                _ => continue,
            };
            *place = index;
        }
        let needed = [layout.time, layout.session, layout.event, layout.data, layout.context];
        (!needed.contains(&ABSENT)).then_some(layout)
    }

    /// The fields of a line without its end of line. None when it is no whole line: fields are
    /// missing, or a quoted one does not end.
    pub(super) fn split<'a>(&self, line: &'a [u8]) -> Option<Line<'a>> {
        let mut fields: [&[u8]; MOST_FIELDS] = [&[]; MOST_FIELDS];
        let mut rest = line;
        let mut count = 0;
        loop {
            let (field, more) = next_field(rest)?;
            fields[count] = field;
            count += 1;
            match more {
                Some(more) if count < MOST_FIELDS => rest = more,
                _ => break,
            }
        }
        if count < self.count {
            return None;
        }
        // An absent field is beyond the array: empty.
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        Some(Line {
            time: field(self.time),
            connector: field(self.connector),
            session: field(self.session),
            sequence: field(self.sequence),
            remote: field(self.remote),
            event: field(self.event),
            data: field(self.data),
            context: field(self.context),
        })
    }
}

/// A line's fields, without the quotes around them. Doubled quotes inside are left as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Line<'a> {
    pub(super) time: &'a [u8],
    pub(super) connector: &'a [u8],
    pub(super) session: &'a [u8],
    pub(super) sequence: &'a [u8],
    pub(super) remote: &'a [u8],
    pub(super) event: &'a [u8],
    pub(super) data: &'a [u8],
    pub(super) context: &'a [u8],
}

/// The first field, and what follows its comma if there is one. None when its quotes do not end.
fn next_field(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let Some(inside) = text.strip_prefix(b"\"") else {
        return Some(match memchr(b',', text) {
            Some(comma) => (&text[..comma], Some(&text[comma + 1..])),
            None => (text, None),
        });
    };
    let mut at = 0;
    loop {
        let quote = at + memchr(b'"', &inside[at..])?;
        match inside.get(quote + 1) {
            Some(b'"') => at = quote + 2,
            Some(b',') => return Some((&inside[..quote], Some(&inside[quote + 2..]))),
            None => return Some((&inside[..quote], None)),
            // Text behind the closing quote: no writer known does this.
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Line<'_>> {
        Layout::default().split(line.as_bytes())
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = split(
            "2026-10-05T09:00:00.113Z,EDGE01\\Default,08DE00000000A001,8,10.0.0.5:25,203.0.113.9:41022,*,,\
             \"TLS protocol X, and \"\"Y\"\"\"",
        )
        .unwrap();
        assert_eq!(line.time, b"2026-10-05T09:00:00.113Z");
        assert_eq!(line.connector, b"EDGE01\\Default");
        assert_eq!(line.session, b"08DE00000000A001");
        assert_eq!((line.sequence, line.event, line.data), (&b"8"[..], &b"*"[..], &b""[..]));
        assert_eq!(line.remote, b"203.0.113.9:41022");
        assert_eq!(line.context, b"TLS protocol X, and \"\"Y\"\"");
    }

    #[test]
    fn what_is_cut_is_no_line() {
        assert_eq!(split("a,b,c,d,e,f,g,h"), None);
        assert_eq!(split("a,b,c,d,e,f,g,h,\"i"), None);
        assert_eq!(split("a,b,c,d,e,f,g,h,\"i\"j"), None);
        assert_eq!(split(""), None);
        assert_eq!(split("a,b,c,d,e,f,g,h,").unwrap().context, b"");
        assert_eq!(split("a,b,c,d,e,f,g,h,i,more").unwrap().context, b"i");
        assert!(split(&",".repeat(500)).is_some());
    }

    #[test]
    fn the_order_is_the_headers() {
        let layout = Layout::parse(b" context,event,data,session-id,date-time,other").unwrap();
        let line = layout.split(b"c,e,d,s,t,o").unwrap();
        assert_eq!((line.context, line.event, line.data), (&b"c"[..], &b"e"[..], &b"d"[..]));
        assert_eq!((line.session, line.time, line.connector), (&b"s"[..], &b"t"[..], &b""[..]));
        assert_eq!(layout.split(b"c,e,d,s,t"), None);
        assert_eq!(Layout::parse(b"date-time,event,data,context"), None);
        assert_eq!(
            Layout::parse(
                b"date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context"
            ),
            Some(Layout::default())
        );
    }
}
